#include "job.h"

#include <uv.h>

#include <cstring>
#include <utility>

namespace sealdrive {

namespace {

struct Job {
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  std::function<int(Failure*)> run;
  Failure failure;
  int result = 0;
};

// Pool thread.
void Execute(napi_env, void* data) {
  auto* job = static_cast<Job*>(data);
  job->result = job->run(&job->failure);
}

// Loop thread.
void Complete(napi_env env, napi_status status, void* data) {
  auto* job = static_cast<Job*>(data);
  if (status == napi_cancelled) {
    napi_reject_deferred(env, job->deferred, MakeError(env, {ECANCELED, "cancelled", "the environment is closing"}));
  } else if (job->failure.error != 0) {
    napi_reject_deferred(env, job->deferred, MakeError(env, job->failure));
  } else {
    napi_resolve_deferred(env, job->deferred, MakeNumber(env, job->result));
  }
  napi_delete_async_work(env, job->work);
  delete job;
}

void SetString(napi_env env, napi_value object, const char* name, const std::string& value) {
  napi_value text;
  napi_create_string_utf8(env, value.data(), value.size(), &text);
  napi_set_named_property(env, object, name, text);
}

}  // namespace

napi_value MakeNumber(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

napi_value MakeBool(napi_env env, bool value) {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}

napi_value MakeError(napi_env env, const Failure& failure) {
  const std::string code = failure.error > 0 ? uv_err_name(-failure.error) : "UNKNOWN";
  const std::string text = failure.detail.empty() ? std::string(strerror(failure.error)) : failure.detail;
  napi_value message, codeValue, error;
  napi_create_string_utf8(env, text.data(), text.size(), &message);
  napi_create_string_utf8(env, code.data(), code.size(), &codeValue);
  napi_create_error(env, codeValue, message, &error);
  SetString(env, error, "stage", failure.stage);
  napi_set_named_property(env, error, "errno", MakeNumber(env, failure.error));
  return error;
}

napi_value ThrowError(napi_env env, const Failure& failure) {
  napi_throw(env, MakeError(env, failure));
  return nullptr;
}

napi_value RunAsPromise(napi_env env, const char* name, std::function<int(Failure*)> work) {
  auto* job = new Job();
  job->run = std::move(work);
  napi_value promise, resource;
  napi_create_promise(env, &job->deferred, &promise);
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &resource);
  napi_create_async_work(env, nullptr, resource, Execute, Complete, job, &job->work);
  napi_queue_async_work(env, job->work);
  return promise;
}

std::string StringOf(napi_env env, napi_value value) {
  size_t length = 0;
  bool isBuffer = false;
  if (napi_is_buffer(env, value, &isBuffer) == napi_ok && isBuffer) {
    void* data = nullptr;
    if (napi_get_buffer_info(env, value, &data, &length) != napi_ok) return {};
    return std::string(static_cast<const char*>(data), length);
  }
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return {};
  std::string text(length, '\0');
  napi_get_value_string_utf8(env, value, text.data(), length + 1, &length);
  return text;
}

std::string StringProperty(napi_env env, napi_value object, const char* name) {
  napi_value value;
  if (napi_get_named_property(env, object, name, &value) != napi_ok) return {};
  return StringOf(env, value);
}

bool BoolProperty(napi_env env, napi_value object, const char* name) {
  napi_value value;
  bool result = false;
  if (napi_get_named_property(env, object, name, &value) == napi_ok) napi_get_value_bool(env, value, &result);
  return result;
}

int64_t NumberOf(napi_env env, napi_value value) {
  int64_t number = -1;
  napi_get_value_int64(env, value, &number);
  return number;
}

}  // namespace sealdrive

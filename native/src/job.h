// Work for the libuv thread pool that ends as a promise, and errors with a code. Not a general wrapper of Node-API.
#pragma once
#include <node_api.h>

#include <functional>
#include <string>

namespace sealdrive {

// A failed system call: `error` is an errno, `stage` a short stable word for the step that failed, `detail` is for
// people.
struct Failure {
  int error = 0;
  std::string stage;
  std::string detail;
};

// An Error object with `code` ("EBUSY"), `errno` (positive), `stage` and a message. Loop thread only.
napi_value MakeError(napi_env env, const Failure& failure);
// Throws it in JavaScript; returns nullptr for convenience.
napi_value ThrowError(napi_env env, const Failure& failure);

// Runs `work` on a pool thread; the promise resolves with its number, or rejects when it filled in the failure.
napi_value RunAsPromise(napi_env env, const char* name, std::function<int(Failure*)> work);

// A string as UTF-8; a buffer as it is: paths are bytes.
std::string StringOf(napi_env env, napi_value value);
std::string StringProperty(napi_env env, napi_value object, const char* name);
bool BoolProperty(napi_env env, napi_value object, const char* name);
int64_t NumberOf(napi_env env, napi_value value);
napi_value MakeNumber(napi_env env, double value);
napi_value MakeBool(napi_env env, bool value);

}  // namespace sealdrive

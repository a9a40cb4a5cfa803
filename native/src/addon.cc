// The addon's entry: see ../README.md for threads and buffer ownership.
#include "parts.h"

namespace sealdrive {

void Export(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

}  // namespace sealdrive

NAPI_MODULE_INIT() {
  sealdrive::ExportMount(env, exports);
  sealdrive::ExportSession(env, exports);
  sealdrive::ExportProcess(env, exports);
  sealdrive::ExportAead(env, exports);
  return exports;
}

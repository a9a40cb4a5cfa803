// What each part of the addon adds to its exports.
#pragma once
#include <node_api.h>

namespace sealdrive {

void Export(napi_env env, napi_value exports, const char* name, napi_callback callback);

void ExportMount(napi_env env, napi_value exports);
void ExportSession(napi_env env, napi_value exports);
void ExportAead(napi_env env, napi_value exports);
void ExportProcess(napi_env env, napi_value exports);

}  // namespace sealdrive

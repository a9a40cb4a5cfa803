// Authenticated encryption in batches on the libuv thread pool, and decryption at once, with the OpenSSL that Node.js
// brings. It knows no format: keys, additional data, inputs and places in the output come from JavaScript, which keeps
// all buffers of a batch alive and unchanged until its promise settles.
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "job.h"
#include "parts.h"

namespace sealdrive {

namespace {

constexpr size_t kKeyLength = 32;
constexpr int kTagLength = 16;

struct Bytes {
  uint8_t* data = nullptr;
  size_t length = 0;
};

struct Message {
  const EVP_CIPHER* cipher = nullptr;
  Bytes key;
  Bytes aad;
  std::vector<Bytes> parts;
  size_t at = 0;
};

const EVP_CIPHER* CipherOf(uint32_t suite) { return suite == 1 ? EVP_aes_256_gcm() : suite == 2 ? EVP_chacha20_poly1305() : nullptr; }

bool BytesOf(napi_env env, napi_value value, Bytes* bytes) {
  napi_typedarray_type type;
  void* data = nullptr;
  size_t length = 0;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok || type != napi_uint8_array) return false;
  *bytes = {static_cast<uint8_t*>(data), length};
  return true;
}

napi_value ElementOf(napi_env env, napi_value array, uint32_t index) {
  napi_value element = nullptr;
  napi_get_element(env, array, index, &element);
  return element;
}

// One message: [suite, at, key, aad, ...parts]. `size` becomes the length of its ciphertext with the tag.
bool MessageOf(napi_env env, napi_value array, Message* message, size_t* size) {
  uint32_t count = 0;
  if (napi_get_array_length(env, array, &count) != napi_ok || count < 4) return false;
  uint32_t suite = 0;
  int64_t at = -1;
  if (napi_get_value_uint32(env, ElementOf(env, array, 0), &suite) != napi_ok) return false;
  if (napi_get_value_int64(env, ElementOf(env, array, 1), &at) != napi_ok || at < 0) return false;
  message->cipher = CipherOf(suite);
  message->at = static_cast<size_t>(at);
  if (message->cipher == nullptr || !BytesOf(env, ElementOf(env, array, 2), &message->key) || message->key.length != kKeyLength) return false;
  if (!BytesOf(env, ElementOf(env, array, 3), &message->aad)) return false;
  *size = kTagLength;
  for (uint32_t index = 4; index < count; index++) {
    Bytes part;
    if (!BytesOf(env, ElementOf(env, array, index), &part) || part.length > INT32_MAX) return false;
    message->parts.push_back(part);
    *size += part.length;
  }
  return true;
}

// Pool thread. The nonce is zero: every key serves one message.
bool Encrypt(EVP_CIPHER_CTX* context, const Message& message, uint8_t* target) {
  static const uint8_t nonce[12] = {};
  int written = 0;
  uint8_t* out = target + message.at;
  if (EVP_EncryptInit_ex(context, message.cipher, nullptr, message.key.data, nonce) != 1) return false;
  if (EVP_EncryptUpdate(context, nullptr, &written, message.aad.data, static_cast<int>(message.aad.length)) != 1) return false;
  for (const Bytes& part : message.parts) {
    if (part.length == 0) continue;
    if (EVP_EncryptUpdate(context, out, &written, part.data, static_cast<int>(part.length)) != 1) return false;
    out += written;
  }
  if (EVP_EncryptFinal_ex(context, out, &written) != 1) return false;
  return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTagLength, out + written) == 1;
}

// aeadEncrypt(target, messages): writes ciphertext and tag of each message at its place in `target`.
napi_value AeadEncrypt(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t count = 2;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Bytes target;
  uint32_t length = 0;
  auto messages = std::make_shared<std::vector<Message>>();
  bool valid = count == 2 && BytesOf(env, arguments[0], &target) && napi_get_array_length(env, arguments[1], &length) == napi_ok;
  for (uint32_t index = 0; valid && index < length; index++) {
    size_t size = 0;
    messages->emplace_back();
    valid = MessageOf(env, ElementOf(env, arguments[1], index), &messages->back(), &size) && messages->back().at <= target.length &&
            size <= target.length - messages->back().at;
  }
  if (!valid) {
    napi_throw_type_error(env, nullptr, "aeadEncrypt: malformed messages");
    return nullptr;
  }
  return RunAsPromise(env, "sealdrive:aead", [messages, target](Failure* failure) {
    std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    bool done = context != nullptr;
    for (const Message& message : *messages) done = done && Encrypt(context.get(), message, target.data);
    if (!done) *failure = {EIO, "encrypt", "OpenSSL refused to encrypt"};
    return 0;
  });
}

bool Decrypt(EVP_CIPHER_CTX* context, const EVP_CIPHER* cipher, const Bytes& key, const Bytes& aad, const Bytes& sealed, uint8_t* target) {
  static const uint8_t nonce[12] = {};
  const int length = static_cast<int>(sealed.length - kTagLength);
  int written = 0;
  return EVP_DecryptInit_ex(context, cipher, nullptr, key.data, nonce) == 1 &&
         EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTagLength, sealed.data + length) == 1 &&
         EVP_DecryptUpdate(context, nullptr, &written, aad.data, static_cast<int>(aad.length)) == 1 &&
         (length == 0 || EVP_DecryptUpdate(context, target, &written, sealed.data, length) == 1) &&
         EVP_DecryptFinal_ex(context, target + length, &written) == 1;
}

// aeadDecrypt(suite, key, aad, sealed, target) -> whether it is authentic: writes the plaintext of `sealed`
// (ciphertext, then tag) to the beginning of `target`, which may be `sealed` itself and is wiped if it is not
// authentic. Loop thread.
napi_value AeadDecrypt(napi_env env, napi_callback_info info) {
  napi_value arguments[5];
  size_t count = 5;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  uint32_t suite = 0;
  Bytes key, aad, sealed, target;
  if (count != 5 || napi_get_value_uint32(env, arguments[0], &suite) != napi_ok || CipherOf(suite) == nullptr || !BytesOf(env, arguments[1], &key) ||
      key.length != kKeyLength || !BytesOf(env, arguments[2], &aad) || !BytesOf(env, arguments[3], &sealed) || !BytesOf(env, arguments[4], &target) ||
      sealed.length < kTagLength || sealed.length > INT32_MAX || target.length < sealed.length - kTagLength) {
    napi_throw_type_error(env, nullptr, "aeadDecrypt: malformed message");
    return nullptr;
  }
  std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  const bool authentic = context != nullptr && Decrypt(context.get(), CipherOf(suite), key, aad, sealed, target.data);
  if (!authentic) OPENSSL_cleanse(target.data, sealed.length - kTagLength);
  return MakeBool(env, authentic);
}

}  // namespace

void ExportAead(napi_env env, napi_value exports) {
  Export(env, exports, "aeadEncrypt", AeadEncrypt);
  Export(env, exports, "aeadDecrypt", AeadDecrypt);
}

}  // namespace sealdrive

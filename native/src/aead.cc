// Authenticated encryption and the hashes of segments, with the OpenSSL that Node.js brings: in batches on the libuv
// thread pool, and at once. Keys, additional data, inputs and places in the output come from JavaScript, which keeps
// all buffers of a batch alive and unchanged until its promise settles. Of the format it knows the stream of segments
// (doc/format.md, "The seal of a chunk"; src/crypto/stream-format.ts has the same figures).
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "job.h"
#include "parts.h"

namespace sealdrive {

namespace {

constexpr size_t kKeyLength = 32;
constexpr int kTagLength = 16;
constexpr size_t kHashLength = 32;
constexpr size_t kSegmentLength = 8192;
constexpr size_t kSealedSegmentLength = kSegmentLength + kTagLength;
constexpr uint32_t kMessageNonce = 0;

struct Bytes {
  uint8_t* data = nullptr;
  size_t length = 0;
};

// Fetched once: OpenSSL 3 looks up the implementation of EVP_aes_256_gcm() and EVP_sha256() at every use.
const EVP_CIPHER* CipherOf(uint32_t suite) {
  static const EVP_CIPHER* const aes = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  static const EVP_CIPHER* const chacha = EVP_CIPHER_fetch(nullptr, "ChaCha20-Poly1305", nullptr);
  return suite == 1 ? aes : suite == 2 ? chacha : nullptr;
}

const EVP_MD* Sha256() {
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return sha256;
}

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

struct Contexts {
  Contexts() : cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free), hash(EVP_MD_CTX_new(), EVP_MD_CTX_free) {}
  bool Valid() const { return cipher != nullptr && hash != nullptr; }
  std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> cipher;
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> hash;
};

// What all AEAD calls of one sealed object share.
struct Key {
  const EVP_CIPHER* cipher = nullptr;
  Bytes key;
  Bytes aad;
};

// Prepares the context for calls with `key`, each of which then only sets its nonce.
bool SetKey(EVP_CIPHER_CTX* context, const Key& key, bool encrypts) {
  return EVP_CipherInit_ex(context, key.cipher, nullptr, key.key.data, nullptr, encrypts ? 1 : 0) == 1;
}

void WriteNonce(uint32_t number, uint8_t nonce[12]) {
  memset(nonce, 0, 12);
  for (int index = 0; index < 4; index++) nonce[index] = static_cast<uint8_t>(number >> (8 * index));
}

bool BeginEncryption(EVP_CIPHER_CTX* context, const Key& key, uint32_t number) {
  uint8_t nonce[12];
  WriteNonce(number, nonce);
  int written = 0;
  return EVP_EncryptInit_ex(context, nullptr, nullptr, nullptr, nonce) == 1 &&
         EVP_EncryptUpdate(context, nullptr, &written, key.aad.data, static_cast<int>(key.aad.length)) == 1;
}

bool Encrypt(EVP_CIPHER_CTX* context, const uint8_t* plain, size_t length, uint8_t** out) {
  int written = 0;
  if (length > 0 && EVP_EncryptUpdate(context, *out, &written, plain, static_cast<int>(length)) != 1) return false;
  *out += length;
  return true;
}

bool EndEncryption(EVP_CIPHER_CTX* context, uint8_t** out) {
  int written = 0;
  if (EVP_EncryptFinal_ex(context, *out, &written) != 1) return false;
  if (EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTagLength, *out) != 1) return false;
  *out += kTagLength;
  return true;
}

bool Decrypt(EVP_CIPHER_CTX* context, const Key& key, uint32_t number, const uint8_t* sealed, size_t length, uint8_t* target) {
  uint8_t nonce[12];
  WriteNonce(number, nonce);
  const int plainLength = static_cast<int>(length) - kTagLength;
  int written = 0;
  return EVP_DecryptInit_ex(context, nullptr, nullptr, nullptr, nonce) == 1 &&
         EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTagLength, const_cast<uint8_t*>(sealed) + plainLength) == 1 &&
         EVP_DecryptUpdate(context, nullptr, &written, key.aad.data, static_cast<int>(key.aad.length)) == 1 &&
         (plainLength == 0 || EVP_DecryptUpdate(context, target, &written, sealed, plainLength) == 1) &&
         EVP_DecryptFinal_ex(context, target + plainLength, &written) == 1;
}

bool Hash(EVP_MD_CTX* context, const uint8_t* bytes, size_t length, uint8_t* hash) {
  return EVP_DigestInit_ex(context, Sha256(), nullptr) == 1 && EVP_DigestUpdate(context, bytes, length) == 1 &&
         EVP_DigestFinal_ex(context, hash, nullptr) == 1;
}

bool HasHash(EVP_MD_CTX* context, const uint8_t* bytes, size_t length, const uint8_t* hash) {
  uint8_t found[kHashLength];
  return Hash(context, bytes, length, found) && memcmp(found, hash, kHashLength) == 0;
}

size_t SegmentCount(size_t storedLength) { return (storedLength + kSegmentLength - 1) / kSegmentLength; }

// One message: sealed as a whole, or as a stream when there is room for the hashes of its segments.
struct Message {
  Key key;
  Bytes hashes;
  std::vector<Bytes> parts;
  size_t length = 0;
  size_t at = 0;
};

size_t SealedLength(const Message& message) {
  return message.length + (message.hashes.data == nullptr ? 1 : SegmentCount(message.length)) * kTagLength;
}

bool KeyOf(napi_env env, napi_value suite, napi_value key, napi_value aad, Key* result) {
  uint32_t number = 0;
  if (napi_get_value_uint32(env, suite, &number) != napi_ok) return false;
  result->cipher = CipherOf(number);
  return result->cipher != nullptr && BytesOf(env, key, &result->key) && result->key.length == kKeyLength && BytesOf(env, aad, &result->aad);
}

// One message: [suite, at, key, aad, hashes or null, ...parts].
bool MessageOf(napi_env env, napi_value array, Message* message) {
  uint32_t count = 0;
  if (napi_get_array_length(env, array, &count) != napi_ok || count < 5) return false;
  int64_t at = -1;
  if (napi_get_value_int64(env, ElementOf(env, array, 1), &at) != napi_ok || at < 0) return false;
  message->at = static_cast<size_t>(at);
  if (!KeyOf(env, ElementOf(env, array, 0), ElementOf(env, array, 2), ElementOf(env, array, 3), &message->key)) return false;
  const bool isStream = BytesOf(env, ElementOf(env, array, 4), &message->hashes);
  for (uint32_t index = 5; index < count; index++) {
    Bytes part;
    if (!BytesOf(env, ElementOf(env, array, index), &part) || part.length > INT32_MAX) return false;
    message->parts.push_back(part);
    message->length += part.length;
  }
  return !isStream || (message->length > 0 && message->hashes.length == SegmentCount(message->length) * kHashLength);
}

bool SealWhole(const Contexts& contexts, const Message& message, uint8_t* out) {
  bool done = SetKey(contexts.cipher.get(), message.key, true) && BeginEncryption(contexts.cipher.get(), message.key, kMessageNonce);
  for (const Bytes& part : message.parts) done = done && Encrypt(contexts.cipher.get(), part.data, part.length, &out);
  return done && EndEncryption(contexts.cipher.get(), &out);
}

// Walks over parts as if they lay side by side.
class PartReader {
 public:
  explicit PartReader(const std::vector<Bytes>& parts) : parts_(parts) {}

  // The next `length` bytes: where they are, or gathered in `scratch`.
  const uint8_t* Next(size_t length, uint8_t* scratch) {
    while (index_ < parts_.size() && at_ == parts_[index_].length) Advance();
    if (parts_[index_].length - at_ >= length) {
      at_ += length;
      return parts_[index_].data + at_ - length;
    }
    for (size_t done = 0; done < length;) {
      if (at_ == parts_[index_].length) Advance();
      const size_t piece = std::min(length - done, parts_[index_].length - at_);
      memcpy(scratch + done, parts_[index_].data + at_, piece);
      done += piece;
      at_ += piece;
    }
    return scratch;
  }

 private:
  void Advance() {
    index_++;
    at_ = 0;
  }

  const std::vector<Bytes>& parts_;
  size_t index_ = 0;
  size_t at_ = 0;
};

bool SealStream(const Contexts& contexts, const Message& message, uint8_t* out) {
  if (!SetKey(contexts.cipher.get(), message.key, true)) return false;
  uint8_t scratch[kSegmentLength];
  PartReader reader(message.parts);
  bool done = true;
  for (size_t index = 0; done && index * kSegmentLength < message.length; index++) {
    const size_t length = std::min(kSegmentLength, message.length - index * kSegmentLength);
    const uint8_t* plain = reader.Next(length, scratch);
    done = Hash(contexts.hash.get(), plain, length, message.hashes.data + index * kHashLength) &&
           BeginEncryption(contexts.cipher.get(), message.key, static_cast<uint32_t>(index)) &&
           Encrypt(contexts.cipher.get(), plain, length, &out) && EndEncryption(contexts.cipher.get(), &out);
  }
  OPENSSL_cleanse(scratch, sizeof scratch);
  return done;
}

// aeadEncrypt(target, messages): writes ciphertext and tags of each message at its place in `target`, and the hashes of
// those that are streams.
napi_value AeadEncrypt(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t count = 2;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Bytes target;
  uint32_t length = 0;
  auto messages = std::make_shared<std::vector<Message>>();
  bool valid = count == 2 && BytesOf(env, arguments[0], &target) && napi_get_array_length(env, arguments[1], &length) == napi_ok;
  for (uint32_t index = 0; valid && index < length; index++) {
    messages->emplace_back();
    const Message& message = messages->back();
    valid = MessageOf(env, ElementOf(env, arguments[1], index), &messages->back()) && message.at <= target.length &&
            SealedLength(message) <= target.length - message.at;
  }
  if (!valid) {
    napi_throw_type_error(env, nullptr, "aeadEncrypt: malformed messages");
    return nullptr;
  }
  return RunAsPromise(env, "sealdrive:aead", [messages, target](Failure* failure) {
    const Contexts contexts;
    bool done = contexts.Valid();
    for (const Message& message : *messages) {
      uint8_t* const out = target.data + message.at;
      done = done && (message.hashes.data == nullptr ? SealWhole(contexts, message, out) : SealStream(contexts, message, out));
    }
    if (!done) *failure = {EIO, "encrypt", "OpenSSL refused to encrypt"};
    return 0;
  });
}

// aeadDecrypt(suite, key, aad, sealed, target) -> whether it is authentic: writes the plaintext of `sealed`
// (ciphertext, then tag) to the beginning of `target`, which may be `sealed` itself and is wiped if it is not
// authentic. Loop thread.
napi_value AeadDecrypt(napi_env env, napi_callback_info info) {
  napi_value arguments[5];
  size_t count = 5;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Key key;
  Bytes sealed, target;
  if (count != 5 || !KeyOf(env, arguments[0], arguments[1], arguments[2], &key) || !BytesOf(env, arguments[3], &sealed) ||
      !BytesOf(env, arguments[4], &target) || sealed.length < kTagLength || sealed.length > INT32_MAX || target.length < sealed.length - kTagLength) {
    napi_throw_type_error(env, nullptr, "aeadDecrypt: malformed message");
    return nullptr;
  }
  const Contexts contexts;
  const bool authentic = contexts.Valid() && SetKey(contexts.cipher.get(), key, false) &&
                         Decrypt(contexts.cipher.get(), key, kMessageNonce, sealed.data, sealed.length, target.data);
  if (!authentic) OPENSSL_cleanse(target.data, sealed.length - kTagLength);
  return MakeBool(env, authentic);
}

// Consecutive segments of a stream that are to be opened.
struct Opening {
  Key key;
  Bytes hashes;
  Bytes segments;
  size_t first = 0;
  Bytes target;
};

bool OpenSegments(const Contexts& contexts, const Opening& opening) {
  if (!SetKey(contexts.cipher.get(), opening.key, false)) return false;
  const uint8_t* sealed = opening.segments.data;
  const uint8_t* hash = opening.hashes.data;
  uint8_t* target = opening.target.data;
  size_t left = opening.segments.length;
  for (size_t index = opening.first; left > 0; index++) {
    const size_t length = std::min(kSealedSegmentLength, left);
    if (!Decrypt(contexts.cipher.get(), opening.key, static_cast<uint32_t>(index), sealed, length, target)) return false;
    if (!HasHash(contexts.hash.get(), target, length - kTagLength, hash)) return false;
    sealed += length;
    hash += kHashLength;
    target += length - kTagLength;
    left -= length;
  }
  return true;
}

bool OpenOrWipe(const Contexts& contexts, const Opening& opening) {
  if (contexts.Valid() && OpenSegments(contexts, opening)) return true;
  OPENSSL_cleanse(opening.target.data, opening.target.length);
  return false;
}

constexpr uint32_t kOpeningFields = 7;

// [suite, key, aad, hashes, segments, first, target], whose lengths fit each other.
bool OpeningOf(napi_env env, const napi_value* fields, Opening* opening) {
  int64_t first = -1;
  if (!KeyOf(env, fields[0], fields[1], fields[2], &opening->key) || !BytesOf(env, fields[3], &opening->hashes) ||
      !BytesOf(env, fields[4], &opening->segments) || napi_get_value_int64(env, fields[5], &first) != napi_ok ||
      !BytesOf(env, fields[6], &opening->target)) {
    return false;
  }
  const size_t count = (opening->segments.length + kSealedSegmentLength - 1) / kSealedSegmentLength;
  opening->first = static_cast<size_t>(first);
  return first >= 0 && count > 0 && opening->hashes.length == count * kHashLength &&
         (opening->segments.length - 1) % kSealedSegmentLength >= kTagLength &&
         opening->target.length == opening->segments.length - count * kTagLength;
}

// streamOpen(suite, key, aad, hashes, segments, first, target) -> whether all of it is authentic, by tags and hashes:
// writes the plaintext of consecutive segments, from number `first` on, to `target`, which is wiped if it is not. Loop
// thread.
napi_value StreamOpen(napi_env env, napi_callback_info info) {
  napi_value arguments[kOpeningFields];
  size_t count = kOpeningFields;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Opening opening;
  if (count != kOpeningFields || !OpeningOf(env, arguments, &opening)) {
    napi_throw_type_error(env, nullptr, "streamOpen: malformed segments");
    return nullptr;
  }
  return MakeBool(env, OpenOrWipe(Contexts(), opening));
}

// streamOpenAll(openings, results): each as for streamOpen; 1 or 0 for each goes to the bytes of `results`. Pool
// thread.
napi_value StreamOpenAll(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t count = 2;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  uint32_t length = 0;
  Bytes results;
  auto openings = std::make_shared<std::vector<Opening>>();
  bool valid = count == 2 && napi_get_array_length(env, arguments[0], &length) == napi_ok && BytesOf(env, arguments[1], &results) &&
               results.length == length;
  for (uint32_t index = 0; valid && index < length; index++) {
    napi_value fields[kOpeningFields];
    const napi_value array = ElementOf(env, arguments[0], index);
    for (uint32_t field = 0; field < kOpeningFields; field++) fields[field] = ElementOf(env, array, field);
    openings->emplace_back();
    valid = OpeningOf(env, fields, &openings->back());
  }
  if (!valid) {
    napi_throw_type_error(env, nullptr, "streamOpenAll: malformed segments");
    return nullptr;
  }
  return RunAsPromise(env, "sealdrive:stream", [openings, results](Failure*) {
    const Contexts contexts;
    for (size_t index = 0; index < openings->size(); index++) results.data[index] = OpenOrWipe(contexts, (*openings)[index]) ? 1 : 0;
    return 0;
  });
}

}  // namespace

void ExportAead(napi_env env, napi_value exports) {
  Export(env, exports, "aeadEncrypt", AeadEncrypt);
  Export(env, exports, "aeadDecrypt", AeadDecrypt);
  Export(env, exports, "streamOpen", StreamOpen);
  Export(env, exports, "streamOpenAll", StreamOpenAll);
}

}  // namespace sealdrive

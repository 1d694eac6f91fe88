#include "serve/bundle_hash.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include "base/error.h"

namespace cohort {

std::string sha256(std::string_view bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  const int done = EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr);
  if (done != 1 || size != 32)
    fail(Exit::storage, "SHA-256 is not offered by the OpenSSL library of this system (a FIPS or "
         "reduced build?); bundles need it: install the system's full libcrypto");
  std::string hex;
  for (unsigned int k = 0; k < size; ++k) hex += fmt::format("{:02x}", digest[k]);
  return hex;
}

}  // namespace cohort

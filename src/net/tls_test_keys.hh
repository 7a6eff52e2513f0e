// Certificates for tests, good and bad in every way the real tool (config/keys) refuses to make.
#pragma once

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "net/certificate.hh"
#include "net/tls_context.hh"

namespace gecko::net::testing_keys {

struct Spec {
  std::string uri;                                    // empty: no subjectAltName
  std::string more_names;                             // ",DNS:x"
  std::string usage = "critical,digitalSignature", purposes = "serverAuth,clientAuth";
  bool is_ca = false;
  long from_s = -3600, until_s = 3600;
  int rsa_bits = 0;                                   // 0: P-256
};

struct Made {
  X509Ptr certificate;
  KeyPtr key;
  std::string certificate_pem, key_pem, serial;
};

inline void extend(X509* x, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, x, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  GECKO_ASSERT(extension != nullptr);
  X509_add_ext(x, extension, -1);
  X509_EXTENSION_free(extension);
}

inline std::string pem_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

inline void refresh_pem(Made& made) {
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, made.certificate.get());
  made.certificate_pem = pem_of(bio);
  bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(bio, made.key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  made.key_pem = pem_of(bio);
  made.serial = serial_of(made.certificate.get());
}

// `issuer` null: self-signed.
inline Made make(const Spec& spec, const Made* issuer) {
  static long next_serial = 0x1000;
  Made made;
  made.key.reset(spec.rsa_bits != 0 ? EVP_RSA_gen(static_cast<unsigned>(spec.rsa_bits)) : EVP_EC_gen("P-256"));
  made.certificate.reset(X509_new());
  X509* x = made.certificate.get();
  X509_set_version(x, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(x), ++next_serial);
  X509_gmtime_adj(X509_getm_notBefore(x), spec.from_s);
  X509_gmtime_adj(X509_getm_notAfter(x), spec.until_s);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(spec.is_ca ? "ca" : "node"), -1, -1, 0);
  X509* from = issuer == nullptr ? x : issuer->certificate.get();
  X509_set_issuer_name(x, X509_get_subject_name(from));
  X509_set_pubkey(x, made.key.get());
  extend(x, from, NID_basic_constraints, spec.is_ca ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE");
  extend(x, from, NID_key_usage, spec.is_ca ? "critical,keyCertSign,cRLSign" : spec.usage);
  if (!spec.is_ca && !spec.purposes.empty()) extend(x, from, NID_ext_key_usage, spec.purposes);
  extend(x, from, NID_subject_key_identifier, "hash");
  extend(x, from, NID_authority_key_identifier, "keyid");
  if (!spec.uri.empty()) extend(x, from, NID_subject_alt_name, "URI:" + spec.uri + spec.more_names);
  X509_sign(x, issuer == nullptr ? made.key.get() : issuer->key.get(), EVP_sha256());
  refresh_pem(made);
  return made;
}

inline Made make_ca(const std::string& group) {
  Spec spec;
  spec.uri = "gecko://" + group + "/ca";
  spec.is_ca = true;
  return make(spec, nullptr);
}
inline Made make_node(const std::string& group, const std::string& node, const Made& ca, Spec spec = {}) {
  spec.uri = "gecko://" + group + "/node/" + node;
  return make(spec, &ca);
}

inline KeyMaterial material(const Made& ca, const Made& node, const std::string& revoked = "") {
  KeyMaterial keys;
  keys.ca = ca.certificate_pem;
  keys.certificate = node.certificate_pem;
  keys.key = node.key_pem;
  keys.revoked = revoked;
  keys.where = "/test";
  return keys;
}

}  // namespace gecko::net::testing_keys

#include "net/tls_context.hh"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>

#include "net/certificate.hh"
#include "net/tls_peer.hh"

namespace gecko::net {
namespace {

struct FreeContext { void operator()(SSL_CTX* c) const { SSL_CTX_free(c); } };
using ContextPtr = std::unique_ptr<SSL_CTX, FreeContext>;

// Would a peer accept our own certificate? Better said here than guessed from its alert.
Status check_chain(X509_STORE* store, X509* certificate, const std::string& where) {
  struct FreeStoreContext { void operator()(X509_STORE_CTX* c) const { X509_STORE_CTX_free(c); } };
  const std::unique_ptr<X509_STORE_CTX, FreeStoreContext> context(X509_STORE_CTX_new());
  if (!context || X509_STORE_CTX_init(context.get(), store, certificate, nullptr) != 1)
    return make_error(Errc::internal, "check " + where + "/node.crt: " + openssl_reasons());
  X509_STORE_CTX_set_purpose(context.get(), X509_PURPOSE_SSL_SERVER);
  if (X509_verify_cert(context.get()) == 1) return {};
  const int error = X509_STORE_CTX_get_error(context.get());
  (void)openssl_reasons();
  const std::string file = where + (X509_STORE_CTX_get_error_depth(context.get()) == 0 ? "/node.crt" : "/ca.crt");
  const X509* at = X509_STORE_CTX_get_current_cert(context.get());
  if (error == X509_V_ERR_CERT_HAS_EXPIRED && at != nullptr)
    return make_error(Errc::invalid, file + " expired at " + iso_time(X509_get0_notAfter(at)) + "; sign a new one with 'gecko key sign'");
  if (error == X509_V_ERR_CERT_NOT_YET_VALID && at != nullptr)
    return make_error(Errc::invalid, file + " is valid only from " + iso_time(X509_get0_notBefore(at)) + "; is this machine's clock right?");
  if (error == X509_V_ERR_INVALID_PURPOSE) return make_error(Errc::invalid, file + " is not made for node links; sign one with 'gecko key sign'");
  return make_error(Errc::invalid, where + "/node.crt was not signed by ca.crt beside it (" + X509_verify_cert_error_string(error) +
                                       "); both must come from the same 'gecko key sign'");
}

}  // namespace

struct TlsContext::Impl {
  ContextPtr context;
  std::vector<std::string> revoked;  // sorted
  std::string serial, authority, not_after;
};

KeyMaterial::~KeyMaterial() { OPENSSL_cleanse(key.data(), key.size()); }

Result<KeyMaterial> KeyMaterial::read(const std::string& key_dir) {
  KeyMaterial keys;
  keys.where = key_dir;
  GECKO_TRY(keys.ca, read_key_file(key_dir + "/ca.crt", false));
  GECKO_TRY(keys.certificate, read_key_file(key_dir + "/node.crt", false));
  GECKO_TRY(keys.key, read_key_file(key_dir + "/node.key", true));
  auto revoked = read_key_file(key_dir + "/revoked.txt", false);
  if (revoked)
    keys.revoked = *std::move(revoked);
  else if (revoked.error().code != Errc::not_found)
    return revoked.error();
  return keys;
}

TlsContext::~TlsContext() = default;
ssl_ctx_st* TlsContext::raw() const { return impl_->context.get(); }
const std::string& TlsContext::serial() const { return impl_->serial; }
const std::string& TlsContext::authority() const { return impl_->authority; }
const std::string& TlsContext::not_after() const { return impl_->not_after; }

bool TlsContext::is_revoked(const std::string& serial_hex) const {
  return std::binary_search(impl_->revoked.begin(), impl_->revoked.end(), serial_hex);
}

Result<std::shared_ptr<TlsContext>> TlsContext::load(const std::string& group, const std::string& node, const std::string& key_dir) {
  GECKO_TRY(const KeyMaterial keys, KeyMaterial::read(key_dir));
  GECKO_TRY(auto context, make(group, node, keys));
  context->key_dir_ = key_dir;
  return context;
}

Result<std::shared_ptr<TlsContext>> TlsContext::make(const std::string& group, const std::string& node, const KeyMaterial& keys) {
  std::shared_ptr<TlsContext> context(new TlsContext);
  context->group_ = group;
  context->node_ = node;
  GECKO_CHECK(context->update(keys));
  return context;
}

Status TlsContext::reload() {
  GECKO_TRY(const KeyMaterial keys, KeyMaterial::read(key_dir_));
  return update(keys);
}

Status TlsContext::update(const KeyMaterial& keys) {
  const std::string& where = keys.where;
  GECKO_TRY(const X509Ptr authority, parse_certificate(keys.ca, where + "/ca.crt"));
  GECKO_TRY(const X509Ptr certificate, parse_certificate(keys.certificate, where + "/node.crt"));
  GECKO_TRY(const KeyPtr key, parse_private_key(keys.key, where + "/node.key"));
  GECKO_TRY(std::vector<std::string> revoked, parse_serials(keys.revoked, where + "/revoked.txt"));
  std::sort(revoked.begin(), revoked.end());

  const auto whose_ca = identity_of(authority.get());
  if (!whose_ca || *whose_ca != Identity{group_, ""})
    return make_error(Errc::invalid, where + "/ca.crt is not the CA of group '" + group_ + "'" +
                                         (whose_ca ? ": it is " + whose_ca->uri() : std::string()) +
                                         "; use the directory that 'gecko key sign' made for this node");
  const auto whose = identity_of(certificate.get());
  if (!whose || *whose != Identity{group_, node_})
    return make_error(Errc::invalid, where + "/node.crt is not the certificate of node '" + node_ + "' of group '" + group_ + "'" +
                                         (whose ? ": it is " + whose->uri() : std::string()) + "; use the directory that 'gecko key sign' made for this node");
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    (void)openssl_reasons();
    return make_error(Errc::invalid, where + "/node.key does not belong to node.crt beside it; both must come from the same 'gecko key sign'");
  }
  const std::string serial = serial_of(certificate.get());
  if (std::binary_search(revoked.begin(), revoked.end(), serial))
    return make_error(Errc::permission, where + "/node.crt is revoked (serial " + serial + "); sign a new one with 'gecko key sign'");

  auto impl = std::make_unique<Impl>();
  ERR_clear_error();
  impl->context.reset(SSL_CTX_new(TLS_method()));
  SSL_CTX* context = impl->context.get();
  if (context == nullptr) return make_error(Errc::internal, "set up TLS: " + openssl_reasons());
  configure_tls(context);
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  if (X509_STORE_add_cert(store, authority.get()) != 1 || SSL_CTX_use_certificate(context, certificate.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context, key.get()) != 1)
    return make_error(Errc::invalid, where + ": the keys cannot be used for TLS 1.3: " + openssl_reasons());
  GECKO_CHECK(check_chain(store, certificate.get(), where));
  impl->revoked = std::move(revoked);
  impl->serial = serial;
  impl->authority = fingerprint_of(authority.get());
  impl->not_after = iso_time(X509_get0_notAfter(certificate.get()));
  impl_ = std::move(impl);
  return {};
}

}  // namespace gecko::net

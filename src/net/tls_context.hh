// The keys of one group on this node, ready for links: loaded, checked against each other, replaceable while links stand.
// Rotation and revocation: reload() (or update()) is for links made afterwards; links that stand are ended by whoever owns
// them: when is_revoked(peer_serial()), when authority() or serial() is another one.
#pragma once

#include <memory>
#include <string>

#include "base/result.hh"

struct ssl_ctx_st;

namespace gecko::net {

// The files of a key directory as text: for a process that may no longer open them itself. The key is wiped with the object.
struct KeyMaterial {
  std::string ca, certificate, key, revoked;  // ca.crt, node.crt, node.key, revoked.txt (empty: none)
  std::string where;                          // the directory, for messages
  // Errors: not_found, permission (a private key others may use; the message has the command), limit.
  static Result<KeyMaterial> read(const std::string& key_dir);
  KeyMaterial() = default;
  KeyMaterial(KeyMaterial&&) = default;
  KeyMaterial& operator=(KeyMaterial&&) = default;
  ~KeyMaterial();
};

class TlsContext {
 public:
  // Errors say which file, what is wrong and the remedy: key and certificate do not belong together, another group's or node's,
  // expired, not signed by this CA, revoked.
  static Result<std::shared_ptr<TlsContext>> load(const std::string& group, const std::string& node, const std::string& key_dir);
  static Result<std::shared_ptr<TlsContext>> make(const std::string& group, const std::string& node, const KeyMaterial& keys);
  Status reload();                          // from the directory it was loaded from; on error everything stays as it was
  Status update(const KeyMaterial& keys);
  bool is_revoked(const std::string& serial_hex) const;
  const std::string& group() const { return group_; }
  const std::string& node() const { return node_; }
  const std::string& serial() const;        // of our own certificate
  const std::string& authority() const;     // the CA's fingerprint
  const std::string& not_after() const;     // of our own certificate, ISO 8601 UTC
  ssl_ctx_st* raw() const;
  ~TlsContext();

 private:
  TlsContext() = default;
  struct Impl;
  std::string group_, node_, key_dir_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gecko::net

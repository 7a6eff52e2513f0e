// Keys of a group: a small certificate authority per group, one certificate per node, bound to group and node by a URI in
// subjectAltName: "gecko://GROUP/node/NODE" (the CA: "gecko://GROUP/ca"). ECDSA P-256, X.509 v3, TLS 1.3 only.
//
// Layout of a key directory (0700; keys 0600): ca.crt, ca.key (only where nodes are signed), node.crt, node.key, revoked.txt
// (serial numbers in hex, one per line; absent: none). Private keys never appear in logs, errors or argv.
#pragma once

#include <string>
#include <vector>

#include "base/result.hh"

namespace gecko::config {

struct Certificate {
  std::string group, node;   // from the URI; node empty for the CA
  std::string serial;        // hex
  std::string fingerprint;   // SHA-256, hex
  std::string not_after;     // ISO 8601 UTC
};

// Creates the group's CA in `dir`. Errors: exists.
Result<Certificate> key_init(const std::string& dir, const std::string& group);
// Makes a node key and certificate in `out_dir` (created 0700), signed by the CA in `ca_dir`; copies ca.crt and revoked.txt.
// Signing again is rotation: a new key and serial; the old certificate stays valid until revoked.
Result<Certificate> key_sign(const std::string& ca_dir, const std::string& node, const std::string& out_dir);
// Adds a serial (or every serial issued to a node name: ca_dir keeps issued.txt) to ca_dir/revoked.txt.
Result<std::vector<std::string>> key_revoke(const std::string& ca_dir, const std::string& node_or_serial);
Result<Certificate> key_show(const std::string& certificate_file);

}  // namespace gecko::config

// Keys of a group: a small certificate authority per group, one certificate per node, bound to group and node by a URI in
// subjectAltName: "gecko://GROUP/node/NODE" (the CA: "gecko://GROUP/ca"). ECDSA P-256, X.509 v3, TLS 1.3 only.
//
// Layout of a key directory (0700; keys 0600): ca.crt, ca.key (only where nodes are signed), node.crt, node.key, revoked.txt
// (serial numbers in hex, one per line; absent: none). Private keys never appear in logs, errors or argv. The CA's directory
// also has issued.txt ("SERIAL NODE NOT_AFTER", one line per certificate ever signed).
// Files are created exclusively and never through symbolic links; replacing one is a rename, so that a reader sees the old or the
// new one whole. Concurrent calls on one CA are serialised by a lock on its directory.
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

// Creates the group's CA in `dir` (created 0700 if missing; its parent must exist). Errors: exists, permission (others may use
// the directory), invalid (the group's name).
Result<Certificate> key_init(const std::string& dir, const std::string& group);
// Makes a node key and certificate in `out_dir` (created 0700), signed by the CA in `ca_dir`; copies ca.crt and revoked.txt.
// Signing again is rotation: a new key and serial; the old certificate stays valid until revoked. Errors: exists (`out_dir` holds
// keys of another node, group or CA), not_found (no CA), permission, invalid.
Result<Certificate> key_sign(const std::string& ca_dir, const std::string& node, const std::string& out_dir);
// Adds a serial (or every serial issued to a node name: ca_dir keeps issued.txt) to ca_dir/revoked.txt; returns the serials it
// stood for, also those revoked before. The file takes effect on a node when it is copied there and geckod reloads. Errors: not_found.
Result<std::vector<std::string>> key_revoke(const std::string& ca_dir, const std::string& node_or_serial);
// Errors: not_found, invalid (no certificate of a group).
Result<Certificate> key_show(const std::string& certificate_file);

}  // namespace gecko::config

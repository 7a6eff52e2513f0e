// Where the other nodes' links come in: one listener for each address and port of this node's in its groups, which may share one. The certificate
// says which group a link is of, and that group's Links take it.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "node/links.hh"

namespace gecko::node {

class LinkListeners {
 public:
  explicit LinkListeners(net::Loop& loop) : loop_(loop) {}
  LinkListeners(const LinkListeners&) = delete;
  // From here on that group's links are taken, by `links`, which outlives this. Errors: exists (the port is in use), ...
  Status add(Links& links);

 private:
  net::Loop& loop_;
  std::map<std::string, Links*> by_group_;
  std::map<Endpoint, std::unique_ptr<net::TlsListener>> listeners_;
};

}  // namespace gecko::node

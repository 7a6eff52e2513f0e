#include "node/link_listeners.hh"

namespace gecko::node {

Status LinkListeners::add(Links& links) {
  auto& listener = listeners_[links.endpoint()];
  if (!listener) {
    GECKO_TRY(listener, net::TlsListener::listen(loop_, links.endpoint(), [this](const std::string& group, std::unique_ptr<net::TlsLink> link) {
                by_group_.at(group)->accepted(std::move(link));
              }));
  }
  by_group_[links.tls()->group()] = &links;
  listener->add_group(links.tls());
  return {};
}

}  // namespace gecko::node

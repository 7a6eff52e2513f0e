// A relay's client leaves for another node: when it may, where to, and what comes of it.
#include <sys/socket.h>

#include <cerrno>

#include "proxy/relay.hh"
#include "proxy/worker.hh"

namespace gecko::proxy {

// The server has said nothing that was not read, and has not closed.
bool Relay::server_silent() const {
  char byte = 0;
  return !server_ || (::recv(server_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN);
}

bool Relay::yield() {
  if (over() || leaving() || state_ == State::parting || up_.ended || down_.ended || up_.broken) return false;
  if (state_ == State::open || http_.one_outstanding()) {
    if (!http_.known()) return false;
    const char* why = !http_.at_boundary()                 ? "a request is in progress"
                      : !up_.idle() || !down_.idle()       ? "bytes are under way"
                      : !server_silent()                   ? "the server has something to say"
                                                           : nullptr;
    if (why != nullptr) {
      ++worker_.statistics().postponed;
      return client_.postpone(why);
    }
  }
  Baggage baggage = baggage_;
  baggage.answered += http_.answered();
  if (!detour_) baggage.detours = 0;
  if (!client_.set_state(pack(baggage))) return false;
  before_leaving_ = state_;
  state_ = State::leaving;
  worker_.is_leaving(*this);
  return true;
}

void Relay::depart() {
  if (client_.is_postponed()) {
    const auto ok = client_.handoff_in_background();   // to where it is wanted; asks yield()
    if (!ok && leaving()) state_ = before_leaving_;
    return;
  }
  if (!go_anywhere()) finish();   // the process ends, nobody takes it, and between requests HTTP lets a server close
}

// One node after the other, of those that serve this port: what they cannot take they refuse at once.
bool Relay::go_anywhere() {
  const auto& others = worker_.other_nodes();
  if (others_tried_ == 0) first_other_ = worker_.next_other();
  while (others_tried_ < others.size()) {
    const auto ok = client_.handoff_in_background(others[(first_other_ + others_tried_++) % others.size()]);
    if (ok) return true;
    if (leaving()) state_ = before_leaving_;
    if (ok.error().code == Errc::again) {   // not yet a boundary after all
      --others_tried_;
      return true;
    }
  }
  return false;
}

void Relay::look_at_move() {
  switch (gecko_socket_state(client_.handle())) {
    case GECKO_SOCKET_MOVING: return;
    case GECKO_SOCKET_MOVED:
      ++worker_.statistics().moved;
      if (detour_) ++worker_.statistics().detours;
      return finish();
    case GECKO_SOCKET_LIVE:
      if (!leaving()) return;
      ++worker_.statistics().move_failed;
      state_ = before_leaving_;
      note();
      if (detour_ && !go_anywhere()) return abort_client();
      if (!detour_) evacuating_ ? evacuate() : settle();
      return;
    default: return finish();
  }
}

void Relay::evacuate() {
  evacuating_ = true;
  if (state_ == State::waiting || state_ == State::connecting) depart();
  else settle();
}

}  // namespace gecko::proxy

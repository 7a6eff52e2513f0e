#include "kit/carousel.hh"

namespace gecko::kit {

Carousel::Carousel(const Scene& scene, Options options) : scene_(scene), options_(options), thread_([this] { run(); }) {}

Status Carousel::stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
  return broken_;
}

void Carousel::run() {
  Operator ask(scene_.lab());
  const auto nodes = scene_.nodes();
  Time next_contact = monotonic_now() + options_.contact_every;
  for (size_t round = 0; !stop_; ++round) {
    const auto& target = nodes[round % nodes.size()];
    for (const auto& client : scene_.clients()) {
      const auto moved = ask.handoff(target, client.str(), target);
      if (!moved) {
        broken_ = moved.error();
        return;
      }
      handoffs_ += moved->moved;
    }
    if (options_.contact_every > Duration::zero() && monotonic_now() >= next_contact) {
      next_contact = monotonic_now() + options_.contact_every;
      if (auto ok = ask.contact(target, nodes[(round / 2) % nodes.size()]); !ok) {
        broken_ = ok;
        return;
      }
    }
    std::this_thread::sleep_for(options_.pause);
  }
}

}  // namespace gecko::kit

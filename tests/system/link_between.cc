#include "link_between.hh"

namespace gecko::system_test {
namespace {
constexpr uint16_t kLinkPort = 7470;                          // of a lab's geckods
constexpr Duration kTurn = std::chrono::milliseconds(5);      // between looks at what the test wants

// A body that is passed on as it came.
struct AsItCame {
  wire::Bytes bytes;
  template <class V> void gecko_fields(V&&) const {}
  template <class V> void gecko_fields(V&&) {}
};
}  // namespace
}  // namespace gecko::system_test

template <>
void gecko::wire::put(Writer& w, const gecko::system_test::AsItCame& message) {
  w.raw(message.bytes.data(), message.bytes.size());
}

namespace gecko::system_test {

LinkBetween::LinkBetween(const lab::Lab& lab, std::string from, std::string to, uint16_t port)
    : lab_(lab), from_(std::move(from)), to_(std::move(to)), port_(port) {}

Result<std::unique_ptr<LinkBetween>> LinkBetween::start(const lab::Lab& lab, const std::string& from, const std::string& to, uint16_t port) {
  std::unique_ptr<LinkBetween> between(new LinkBetween(lab, from, to, port));
  std::promise<Status> opened;
  auto done = opened.get_future();
  between->thread_ = std::thread([raw = between.get(), opened = std::move(opened)]() mutable { raw->run(std::move(opened)); });
  GECKO_CHECK(done.get());
  return between;
}

LinkBetween::~LinkBetween() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

Status LinkBetween::open() {
  GECKO_CHECK(lab_.enter(to_));
  const auto keys = [&](const std::string& node) { return net::TlsContext::load("lab", node, lab_.directory() + "/keys/" + node); };
  GECKO_TRY(as_first_, keys(from_));
  GECKO_TRY(as_second_, keys(to_));
  GECKO_TRY(listener_, net::TlsListener::listen(loop_, {lab_.find(to_)->address, port_},
                                                [this](const std::string&, std::unique_ptr<net::TlsLink> link) { accepted(std::move(link)); }));
  listener_->add_group(as_second_);
  return {};
}

void LinkBetween::run(std::promise<Status> opened) {
  const Status ok = open();
  opened.set_value(ok);
  while (ok && !stop_) {
    std::vector<std::packaged_task<void()>> now;
    {
      const std::lock_guard lock(mutex_);
      now.swap(tasks_);
    }
    for (auto& task : now) task();
    loop_.run_once(kTurn);
  }
  drop();
  listener_.reset();
}

void LinkBetween::call(const std::function<void()>& work) {
  std::packaged_task<void()> task(work);
  auto done = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  done.get();
}

void LinkBetween::accepted(std::unique_ptr<net::TlsLink> link) {
  drop();
  first_ = std::move(link);
  const auto events = [this](bool from_first) {
    net::TlsLink::Events e;
    e.frame = [this, from_first](const wire::FrameView& frame) { pass(frame, from_first); };
    e.down = [this](const Error&) { drop(); };
    return e;
  };
  first_->set_events(events(true));
  second_ = net::TlsLink::dial(loop_, as_first_, {}, {lab_.find(to_)->address, kLinkPort}, to_, events(false));
}

void LinkBetween::pass(const wire::FrameView& frame, bool from_first) {
  auto& to = from_first ? second_ : first_;
  if (!to) return;
  ++seen_[{frame.type, from_first}];
  if (frame.type == static_cast<uint16_t>(wire::LinkType::hello))
    if (auto hello = wire::decode<wire::Hello>(frame.body)) {
      hello->version = version_;
      hello->version_min = version_min_;
      return to->send(frame.type, *hello);
    }
  to->send(frame.type, AsItCame{{frame.body.begin(), frame.body.end()}});
}

void LinkBetween::drop() {
  const auto first = std::move(first_), second = std::move(second_);   // each may be in the middle of telling us
}

void LinkBetween::speak(uint16_t version, uint16_t version_min) {
  call([&] {
    version_ = version;
    version_min_ = version_min;
    drop();
    seen_.clear();
  });
}

size_t LinkBetween::seen(wire::LinkType type, bool from_first) {
  size_t count = 0;
  call([&] { count = seen_[{static_cast<uint16_t>(type), from_first}]; });
  return count;
}

}  // namespace gecko::system_test

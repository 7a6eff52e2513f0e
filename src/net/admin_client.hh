// A blocking client of geckod's API socket for operators and tests: one JSON question, one JSON answer, always within a deadline
// (a stopped geckod still has a listening socket: connecting to it succeeds, the answer never comes). docs/protocol/api.md
//
// Errors: unavailable (nobody listens there), permission, timeout (it does not answer), version, invalid (not a geckod).
// Use it from one thread. After an error the connection is of no use any more.
#pragma once

#include <string>

#include "base/clock.hh"
#include "base/fd.hh"
#include "base/result.hh"
#include "wire/api.hh"
#include "wire/frame.hh"

namespace gecko::net {

class AdminClient {
 public:
  static Result<AdminClient> connect(const std::string& socket_path, const std::string& program, Duration at_most = std::chrono::seconds(5));
  Result<std::string> ask(const std::string& json, Duration at_most = std::chrono::seconds(5));
  const wire::Welcome& welcome() const { return welcome_; }

 private:
  AdminClient(Fd socket, std::string path) : socket_(std::move(socket)), path_(std::move(path)) {}
  Status send(const wire::Bytes& bytes, Time deadline);
  Result<wire::FrameView> receive(Time deadline);
  Status wait(short events, Time deadline);
  Error not_answering() const;

  Fd socket_;
  std::string path_;
  wire::FrameParser parser_{wire::kMaxJson + 64};
  wire::Welcome welcome_;
  uint64_t next_request_ = 1;
};

}  // namespace gecko::net

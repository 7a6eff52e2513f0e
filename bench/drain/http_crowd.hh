// A crowd of HTTP/1.1 clients that keep their connections: idle ones (one request at the beginning, then silence), busy ones (a request every
// few milliseconds) and slow ones (a long answer at a time). They behave as browsers do: a connection that the server has ended is replaced
// when the next request is due; a refused connect goes to the second address, if there is one. Nothing is asked twice: a request that gets
// no full answer is counted as failed.
//
// One thread with one epoll inside a network namespace; the functions may be called from another one.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/address.hh"
#include "base/clock.hh"
#include "base/fd.hh"
#include "base/result.hh"

namespace gecko::bench {

struct CrowdOptions {
  std::vector<Endpoint> servers;  // tried in this order
  size_t idle = 0, busy = 0, slow = 0;
  Duration think = std::chrono::milliseconds(20);  // of a busy client, between an answer and its next request
  std::string path, slow_path;                     // what they ask for
  std::string content;                             // every answer's, of both paths
};

struct CrowdCount {
  size_t connections = 0;      // open when mark() was called
  size_t in_flight = 0;        // of these, in the middle of a request
  size_t closed = 0;           // connections that the server's side has ended since
  size_t failed_requests = 0;  // since: no full answer (cut off, reset, nobody accepts a connection)
  size_t retryable = 0;        // of these: on a kept connection, before the first byte of the answer; a browser asks again by itself
  size_t refused = 0;          // since: connects that the first address refused
  size_t answered = 0;         // requests, since
  Duration last_in_flight{};   // from mark() to the end of the last answer that was in flight then
  std::string first_failure;
};

class HttpCrowd {
 public:
  // Opens all connections and waits until each has had its first answer (slow ones: has begun to get it).
  // `enter` runs first on the new thread. Errors: timeout, or the first failure.
  static Result<std::unique_ptr<HttpCrowd>> gather(const CrowdOptions& options, std::function<Status()> enter, Duration at_most);
  ~HttpCrowd();  // closes everything
  HttpCrowd(const HttpCrowd&) = delete;
  HttpCrowd& operator=(const HttpCrowd&) = delete;

  void mark();  // counting begins
  CrowdCount count();
  // Everybody completes what is under way and asks once more, on the connection it has or a new one. How that went is in count(); who has
  // no answer within that time counts as failed.
  void ask_all(Duration at_most);

 private:
  enum class Kind : uint8_t { idle, busy, slow };
  enum class Step : uint8_t { away, connecting, asking, resting };
  struct Client {
    Kind kind = Kind::idle;
    Step step = Step::away;
    bool in_flight = false;   // in a request since before mark()
    bool said_close = false;  // the server's answer has announced the end
    bool last = false;        // this request is the one of ask_all()
    Fd fd;
    size_t server = 0;           // which address
    std::string head;            // of the answer, until it is complete
    size_t length = 0, got = 0;  // of its content
    uint64_t answers = 0;
  };

  explicit HttpCrowd(const CrowdOptions& options) : options_(options) {}
  void run(const std::function<Status()>& enter);
  void turn(Duration at_most);
  void begin(Client& client);
  void connect(Client& client);
  void ask(Client& client);
  void ready(Client& client, uint32_t events);
  void receive(Client& client);
  void answered(Client& client);
  void ended(Client& client, int err);
  void failed(Client& client, const std::string& why);
  void leave(Client& client);
  void wait_then_begin(Client& client, Duration wait);
  template <class Condition>
  bool wait_for(Duration at_most, Condition condition);

  const CrowdOptions options_;
  std::thread thread_;
  std::mutex lock_;  // all of the following
  Fd epoll_;
  std::vector<Client> clients_;
  std::multimap<Time, Client*> due_;
  Time now_{}, marked_{};
  bool marking_ = false, stop_ = false, last_round_ = false;
  size_t not_yet_ = 0;  // clients without a first answer; in the last round: without the last one
  Status broken_;
  CrowdCount count_;
};

}  // namespace gecko::bench

#include "curl.hh"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "kit/pattern.hh"
#include "kit/sha256.hh"

namespace gecko::demo {
namespace {

using kit::Pattern;

constexpr size_t kPiece = 256 * 1024;

std::string pattern_sha256(uint64_t seed, uint64_t size) {
  kit::Sha256 sha;
  std::vector<uint8_t> piece(kPiece);
  for (uint64_t at = 0; at < size; at += piece.size()) {
    const auto part = std::span(piece).first(std::min<uint64_t>(piece.size(), size - at));
    kit::fill_pattern(Pattern::stream, seed, at, part);
    sha.add(part);
  }
  return sha.hex();
}

Result<Fd> memory_file(uint64_t seed, uint64_t size) {
  Fd file(memfd_create("gecko-demo-upload", MFD_CLOEXEC));
  if (!file) return os_error("memfd_create");
  std::vector<uint8_t> piece(kPiece);
  for (uint64_t at = 0; at < size;) {
    const auto part = std::span(piece).first(std::min<uint64_t>(piece.size(), size - at));
    kit::fill_pattern(Pattern::stream, seed, at, part);
    const ssize_t n = ::write(file.get(), part.data(), part.size());
    if (n <= 0) return os_error("write the bytes to upload");
    at += static_cast<size_t>(n);
  }
  return file;
}

}  // namespace

Result<std::unique_ptr<Curl>> Curl::start(const kit::Scene& scene, const CurlOptions& options) {
  std::unique_ptr<Curl> curl(new Curl());
  curl->options_ = options;
  const std::string url = "http://" + options.server.str();
  std::vector<std::string> argv = {"curl", "-sS", "--limit-rate", std::to_string(options.bytes_per_s)};
  lab::SpawnOptions spawn;
  spawn.pipe_out = spawn.pipe_err = true;
  spawn.dies_with_parent = true;
  if (options.upload) {
    GECKO_TRY(curl->source_, memory_file(options.seed, options.size));
    spawn.inherit = curl->source_.get();
    argv.insert(argv.end(), {"-T", "/proc/self/fd/" + std::to_string(curl->source_.get()), url + "/sink"});
  } else {
    argv.push_back(url + "/bytes/" + std::to_string(options.size) + "?seed=" + std::to_string(options.seed));
  }
  curl->end_.expected_sha256 = pattern_sha256(options.seed, options.size);
  GECKO_TRY(curl->process_, scene.lab().run("client", argv, spawn));
  curl->thread_ = std::thread([c = curl.get()] { c->watch(); });
  return curl;
}

Curl::~Curl() {
  if (running_) process_.signal(SIGKILL);
  if (thread_.joinable()) thread_.join();
}

void Curl::watch() {
  kit::Sha256 sha;
  std::string answer;
  std::vector<uint8_t> piece(kPiece);
  for (ssize_t n; (n = ::read(process_.out.get(), piece.data(), piece.size())) > 0;) {
    const auto bytes = std::span(piece).first(static_cast<size_t>(n));
    if (options_.upload) {
      answer.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      continue;
    }
    sha.add(bytes);
    const uint64_t at = received_;
    for (size_t i = 0; i < bytes.size();) {
      i += kit::match_pattern(Pattern::stream, options_.seed, at + i, bytes.subspan(i));
      if (i < bytes.size()) ++wrong_, ++i;
    }
    received_ = at + bytes.size();
  }
  end_.bytes = received_;
  end_.wrong = wrong_;
  if (options_.upload) {
    const auto json = nlohmann::json::parse(answer, nullptr, false);
    if (json.is_object() && json.contains("bytes") && json["bytes"].is_number_unsigned()) {
      end_.bytes = json["bytes"].get<uint64_t>();
      end_.sha256 = json.value("sha256", "");
    } else {
      end_.message = "the answer to the upload is '" + answer.substr(0, 200) + "'";
    }
    if (end_.sha256 != end_.expected_sha256) end_.wrong = options_.size;
  } else {
    end_.sha256 = sha.hex();
  }
  char text[1000];
  if (const ssize_t n = ::read(process_.err.get(), text, sizeof text); n > 0) {
    end_.message.assign(text, static_cast<size_t>(n));
    while (!end_.message.empty() && end_.message.back() == '\n') end_.message.pop_back();
  }
  running_ = false;
}

double Curl::progress() const {
  uint64_t bytes = received_;
  if (options_.upload) {
    // What curl has read, of all it reads: its file and very little else.
    std::ifstream io("/proc/" + std::to_string(process_.pid()) + "/io");
    std::string key;
    if (!(io >> key >> bytes)) bytes = options_.size;
  }
  return std::min(1.0, static_cast<double>(bytes) / static_cast<double>(options_.size));
}

CurlEnd Curl::end() {
  if (running_) process_.signal(SIGKILL);
  if (thread_.joinable()) thread_.join();
  const auto code = process_.wait(std::chrono::seconds(5));
  end_.exit_code = code ? *code : -1;
  if (!code && end_.message.empty()) end_.message = code.error().message;
  return end_;
}

}  // namespace gecko::demo

#include "bpf/libbpf_log.hh"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>
#include <vector>

namespace gecko::bpf {
namespace {

thread_local std::string* g_text = nullptr;

// A verifier log can have megabytes; its end is what matters.
constexpr size_t kKeep = 256 * 1024;

int keep(libbpf_print_level level, const char* format, va_list args) {
  if (level == LIBBPF_DEBUG || g_text == nullptr) return 0;
  va_list again;
  va_copy(again, args);
  const int size = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (size <= 0) return 0;
  std::vector<char> line(static_cast<size_t>(size) + 1);
  std::vsnprintf(line.data(), line.size(), format, args);
  g_text->append(line.data(), static_cast<size_t>(size));
  if (g_text->size() > 2 * kKeep) g_text->erase(0, g_text->size() - kKeep);
  return size;
}

}  // namespace

LibbpfLog::LibbpfLog() {
  g_text = &text_;
  libbpf_set_print(keep);
}

// The callback stays: it is silent when nobody listens.
LibbpfLog::~LibbpfLog() { g_text = nullptr; }

std::string LibbpfLog::tail(size_t bytes) const { return text_.size() <= bytes ? text_ : "..." + text_.substr(text_.size() - bytes); }

}  // namespace gecko::bpf

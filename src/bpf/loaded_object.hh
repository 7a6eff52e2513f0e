// What steering.cc and gate.cc share in loading their programs. Inside bpf/ only.
#pragma once

#include <bpf/libbpf.h>

#include <memory>
#include <string_view>

#include "base/fd.hh"
#include "base/result.hh"
#include "bpf/libbpf_log.hh"

namespace gecko::bpf {

struct ObjectCloser {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using ObjectPtr = std::unique_ptr<bpf_object, ObjectCloser>;

Result<Fd> dup_fd(int fd, std::string_view what);

// Says in the operator's words what is missing, and keeps the verifier's words for us. `what`: "steering programs".
Error load_error(const std::string& what, int err, const LibbpfLog& log);

}  // namespace gecko::bpf

#include "base/identity.hh"

#include <algorithm>

namespace gecko {

bool valid_name(std::string_view name) {
  if (name.empty() || name.size() > 63 || name.front() == '-') return false;
  return std::all_of(name.begin(), name.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

std::string Identity::uri() const { return "gecko://" + group + (is_authority() ? "/ca" : "/node/" + node); }

Result<Identity> Identity::parse(std::string_view uri) {
  static constexpr std::string_view kScheme = "gecko://", kNode = "/node/";
  const auto bad = [] { return make_error(Errc::invalid, "the name in the certificate is not of the form gecko://GROUP/node/NODE"); };
  if (!uri.starts_with(kScheme)) return bad();
  const std::string_view rest = uri.substr(kScheme.size());
  const size_t slash = rest.find('/');
  if (slash == std::string_view::npos) return bad();
  Identity identity;
  identity.group = rest.substr(0, slash);
  const std::string_view path = rest.substr(slash);
  if (!valid_name(identity.group)) return bad();
  if (path == "/ca") return identity;
  if (!path.starts_with(kNode) || !valid_name(path.substr(kNode.size()))) return bad();
  identity.node = path.substr(kNode.size());
  return identity;
}

}  // namespace gecko

#include "cli/daemon_client.hh"

namespace gecko::cli {
namespace {

Errc code_named(const std::string& name) {
  for (int i = static_cast<int>(Errc::internal); i <= static_cast<int>(Errc::version); ++i)
    if (to_string(static_cast<Errc>(i)) == name) return static_cast<Errc>(i);
  return Errc::internal;
}

std::string text_of(const Json& json, const char* key) {
  const auto at = json.find(key);
  return at != json.end() && at->is_string() ? at->get<std::string>() : "";
}

// What went wrong between us and geckod; bytes that make no sense are not the caller's mistake.
Exit exit_of_channel(Errc code) { return code == Errc::invalid || code == Errc::limit ? Exit::unknown : exit_for(code); }

}  // namespace

Result<Geckod> Geckod::connect(const Context& context, Exit& exit, Duration at_most) {
  auto client = net::AdminClient::connect(context.socket, "gecko " GECKO_VERSION, at_most);
  if (client) return Geckod(*std::move(client));
  exit = client.error().code == Errc::unavailable ? Exit::not_running : exit_of_channel(client.error().code);
  return client.error();
}

Result<Json> Geckod::ask(const Json& request, Exit& exit, Duration at_most) {
  const auto refuse = [&](Error error, Exit code) {
    exit = code;
    return error;
  };
  const auto reply = client_.ask(request.dump(-1, ' ', false, Json::error_handler_t::replace), at_most);
  if (!reply) return refuse(reply.error(), exit_of_channel(reply.error().code));
  auto json = Json::parse(*reply, nullptr, false);
  if (!json.is_object())
    return refuse(make_error(Errc::invalid, "geckod's answer is no JSON object; is it of another version? (gecko version)"), Exit::unknown);
  if (text_of(json, "schema") == "gecko.error/1") {
    const Errc code = code_named(text_of(json, "code"));
    return refuse(make_error(code, text_of(json, "message")), exit_for(code));
  }
  return json;
}

Result<Json> ask_geckod(const Context& context, const Json& request, Exit& exit, Duration at_most) {
  const Time deadline = monotonic_now() + at_most;
  GECKO_TRY(auto geckod, Geckod::connect(context, exit, at_most));
  return geckod.ask(request, exit, deadline - monotonic_now());
}

Error not_understood(const Json::exception& e) {
  return make_error(Errc::invalid, std::string("geckod's answer lacks what this gecko expects; is it of another version? (") + e.what() + ")");
}

Exit answer(const Context& context, Json request, const std::function<Exit(const Json&, bool)>& show, Duration at_most) {
  if (!context.group.empty()) request["group"] = context.group;
  Exit exit = Exit::error;
  const auto reply = ask_geckod(context, request, exit, at_most);
  if (!reply) return context.fail(reply.error(), exit);
  if (context.json) context.print(*reply);
  try {
    return show(*reply, !context.json);
  } catch (const Json::exception& e) {
    return context.fail(not_understood(e), Exit::unknown);
  }
}

void print_list(const std::vector<Row>& rows, const Json& reply, const char* none) {
  if (rows.size() == 1) std::printf("%s\n", none);
  else print_table(rows);
  if (const auto omitted = reply.value("omitted", uint64_t{0}); omitted != 0)
    std::printf("%llu more are not listed\n", static_cast<unsigned long long>(omitted));
}

}  // namespace gecko::cli

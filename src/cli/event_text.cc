#include "cli/event_text.hh"

#include "cli/table.hh"

namespace gecko::cli {
namespace {

std::string text(const Json& event, const char* key) {
  const auto& value = event.at(key);
  return value.is_null() ? "nobody" : printable(value.get<std::string>());
}

std::string number(const Json& event, const char* key) { return std::to_string(event.at(key).get<uint64_t>()); }

std::string names(const Json& list) {
  std::string out;
  for (const auto& name : list) out += (out.empty() ? "" : ", ") + printable(name.get<std::string>());
  return out.empty() ? "nobody" : out;
}

std::string milliseconds(double ms) {
  char out[32];
  std::snprintf(out, sizeof out, ms < 100 ? "%.2f ms" : "%.0f ms", ms);
  return out;
}

// ": why", if it is said.
std::string because(const Json& event) {
  const std::string why = event.value("why", "");
  return why.empty() ? "" : ": " + printable(why);
}

std::string of_view(const Json& e) {
  std::string out = "view " + number(e, "view") + ": " + names(e.at("members"));
  if (!e.at("joined").empty()) out += "; joined: " + names(e.at("joined"));
  if (!e.at("left").empty()) out += "; left: " + names(e.at("left"));
  return out + (e.at("member").get<bool>() ? "" : "; this node is no member");
}

std::string of_handoff(const Json& e) {
  std::string out = text(e, "client") + " " + text(e, "from") + " -> " + text(e, "to") + ": " + text(e, "result") + " (" + text(e, "cause");
  if (!e.at("decided_by").is_null()) out += " at " + text(e, "decided_by");
  out += ")";
  if (!e.at("gap_ms").is_null()) out += ", gap " + milliseconds(e.at("gap_ms").get<double>());
  return out + because(e);
}

std::string of_recovered(const Json& e) {
  return text(e, "client") + " of " + text(e, "from") + (text(e, "result") == "recovered" ? " goes on here" : " is with " + text(e, "owner")) + ", " +
         number(e, "ms") + " ms after the view without " + text(e, "from");
}

std::string of_recovery(const Json& e) {
  std::string out = "of " + text(e.at("life"), "node") + "'s connections " + number(e, "recovered") + " go on here, " + number(e, "elsewhere") + " elsewhere";
  for (const auto& [reason, count] : e.at("lost").items()) out += ", " + std::to_string(count.get<uint64_t>()) + " lost (" + printable(reason) + ")";
  return out + "; after " + number(e, "ms") + " ms";
}

std::string of_drain(const Json& e) {
  const std::string state = text(e, "state");
  if (state == "start") return text(e, "of") + " is being drained";
  if (state == "stop") return text(e, "of") + " serves again";
  return text(e, "of") + " is drained: " + number(e, "moved") + " moved away in " + number(e, "ms") + " ms";
}

std::string of_application(const Json& e) {
  const std::string state = text(e, "state");
  return "'" + text(e, "program") + "' (pid " + number(e, "pid") + ", user #" + number(e, "uid") + ") " +
         (state == "joined" ? "has joined" : state == "leaving" ? "takes nothing new any more" : "has left");
}

}  // namespace

std::string event_time(const Json& event) {
  std::string time = text(event, "time");
  if (time.size() != 27) return time;
  time[10] = ' ';
  return time.substr(0, 23) + "Z";
}

std::string event_text(const Json& e) {
  const std::string kind = text(e, "kind");
  if (kind == "view") return of_view(e);
  if (kind == "contact") return e.at("contact").is_null() ? "no contact" : "the contact is " + text(e, "contact") + " (term " + number(e, "term") + ")";
  if (kind == "lease") return std::string(text(e, "state") == "got" ? "has a lease" : "has lost its lease") + " (term " + number(e, "term") + ")";
  if (kind == "suspicion") return text(e, "peer") + (text(e, "state") == "begin" ? " does not answer heartbeats" : " answers heartbeats again");
  if (kind == "link") return "link to " + text(e, "peer") + " is " + text(e, "state") + because(e);
  if (kind == "expelled") return "the others went on without this node: what it owned is theirs to recover";
  if (kind == "handoff") return of_handoff(e);
  if (kind == "arrival") return text(e, "client") + " has arrived from " + text(e, "from");
  if (kind == "recovered") return of_recovered(e);
  if (kind == "recovery") return of_recovery(e);
  if (kind == "connection_lost") return text(e, "client") + " is lost (" + text(e, "reason") + ")" + because(e);
  if (kind == "drain") return of_drain(e);
  if (kind == "application") return of_application(e);
  return kind;
}

std::string event_phases(const Json& handoff) {
  std::string out;
  for (const auto& [phase, ms] : handoff.at("phases_ms").items())
    out += (out.empty() ? "" : ", ") + printable(phase) + " " + milliseconds(ms.get<double>());
  return out;
}

}  // namespace gecko::cli

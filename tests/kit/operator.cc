#include "kit/operator.hh"

#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

namespace gecko::kit {
namespace {

// A reason that many connections share: words with digits in them are names or numbers.
std::string anonymous(const std::string& text) {
  std::istringstream words(text);
  std::string all;
  for (std::string word; words >> word;) all += (all.empty() ? "" : " ") + (word.find_first_of("0123456789") == std::string::npos ? word : "...");
  return all;
}

}  // namespace

Result<net::AdminClient*> Operator::at(const std::string& node) {
  auto& client = clients_[node];
  if (!client) {
    GECKO_TRY(auto connected, net::AdminClient::connect(lab_.socket(node), "gecko-kit"));
    client = std::make_unique<net::AdminClient>(std::move(connected));
  }
  return client.get();
}

Result<nlohmann::json> Operator::ask(const std::string& via, const nlohmann::json& question, Duration at_most) {
  GECKO_TRY(auto* const client, at(via));
  auto answer = client->ask(question.dump(), at_most);
  if (!answer) {
    clients_.erase(via);  // after an error it is of no use any more
    return make_error(answer.error().code, "node " + via + ": " + answer.error().message);
  }
  auto json = nlohmann::json::parse(*answer, nullptr, false);
  if (!json.is_object()) return make_error(Errc::invalid, "node " + via + " answered '" + answer->substr(0, 200) + "'");
  if (json.value("schema", "") == "gecko.error/1") return make_error(Errc::refused, "node " + via + ": " + json.value("message", ""));
  return json;
}

Result<Handoffs> Operator::handoff(const std::string& via, const std::string& client, const std::string& to, Duration at_most) {
  GECKO_CHECK(at(via));  // a connection to geckod that has to be made first is no part of a handoff
  const nlohmann::json question = {{"op", "handoff"}, {"client", client}, {"to", to}};
  Handoffs result;
  result.asked = monotonic_now();
  const auto answer = ask(via, question, at_most);
  result.answered = monotonic_now();
  if (!answer) return answer.error();
  for (const auto& row : (*answer).value("results", nlohmann::json::array())) {
    if (row.value("ok", false)) {
      ++result.moved;
      ++result.from[row.value("from", "")];
    } else {
      ++result.refused;
      ++result.refusals[anonymous(row.value("error", ""))];
      if (result.first_refusal.empty()) result.first_refusal = row.value("client", "") + ": " + row.value("error", "");
    }
  }
  return result;
}

Status Operator::contact(const std::string& via, const std::string& node) {
  GECKO_CHECK(ask(via, {{"op", "contact"}, {"node", node}}));
  return {};
}

Result<std::string> Operator::contact_now(const std::string& via) {
  GECKO_TRY(const auto status, ask(via, {{"op", "status"}}));
  for (const auto& group : status.value("groups", nlohmann::json::array()))
    if (group.contains("contact") && group["contact"].is_string()) return group["contact"].get<std::string>();
  return make_error(Errc::not_found, "node " + via + " knows no contact");
}

Status Operator::wait_nodes(const std::function<std::string(const std::string& node, const nlohmann::json& status)>& missing, Duration at_most) {
  const Time deadline = monotonic_now() + at_most;
  std::string what;
  do {
    what.clear();
    for (const auto& node : lab_.nodes()) {
      const auto status = ask(node, {{"op", "status"}});
      if (!status) return status.error();
      if (auto misses = missing(node, *status); !misses.empty()) what = std::move(misses);
    }
    if (what.empty()) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  } while (monotonic_now() < deadline);
  return make_error(Errc::timeout, what);
}

Status Operator::wait_applications(size_t per_node, Duration at_most) {
  const auto missing = [&](const std::string& node, const nlohmann::json& status) {
    for (const auto& group : status.value("groups", nlohmann::json::array()))
      for (const auto& row : group.value("nodes", nlohmann::json::array()))
        if (const auto sees = row.value("applications", size_t{0}); sees < per_node && !row.value("witness", false))
          return node + " sees " + std::to_string(sees) + " applications on " + row.value("name", "?") + ", not " + std::to_string(per_node);
    return std::string();
  };
  return wait_nodes(missing, at_most);
}

Status Operator::wait_leases(Duration at_most) {
  using Pointer = nlohmann::json::json_pointer;
  const auto missing = [&](const std::string& node, const nlohmann::json& status) {
    const auto membership = status.value(Pointer("/groups/0/membership"), nlohmann::json::object());
    const bool all = membership.value(Pointer("/view/members"), nlohmann::json::array()).size() == lab_.geckods().size();
    return all && membership.value(Pointer("/lease/holds"), false) ? std::string() : "not all members hold a lease: " + node + ": " + membership.dump();
  };
  return wait_nodes(missing, at_most);
}

}  // namespace gecko::kit

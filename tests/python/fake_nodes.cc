// Fake nodes (src/api/fake_geckod.hh) for tests in other languages: fake_nodes NAME... makes one socket NAME.sock each in the directory it then
// prints, and obeys lines of standard input. Each is answered with "ok" or a result. End of input: everything goes.
//   wait N             until N nodes have an application; all are told their members
//   move FROM TO       asks FROM's application for each of its connections and moves it
//   handoffs NODE move|refuse|hold
//   opened NODE        how many connections the node's application has announced and not closed
//   stop NODE / start NODE
//   refusals NODE      "CODE REASON" of the oldest yield that was refused
//   recovers NODE      from now on its group recovers; before an application comes
//   recover FROM TO RECEIVED SENT [INPUT OUTPUT STATE]
//                      the connection that FROM's application hands off (handoffs FROM hold) arrives at TO as if FROM had died: how far it was, and its
//                      last checkpoint
//   checkpoint NODE    "INPUT OUTPUT STATE" of the oldest checkpoint that was made
#include <iostream>
#include <sstream>

#include "api/test_group.hh"

namespace {

using namespace gecko;
using namespace gecko::test;

std::string obey(Group& group, const std::vector<std::string>& names, const std::string& line) {
  std::istringstream words(line);
  std::string verb, one, two;
  words >> verb >> one >> two;
  if (verb == "wait") {
    const auto joined = [&] {
      size_t n = 0;
      for (const auto& name : names) n += group.node(name).has_application();
      return n >= std::stoul(one);
    };
    if (!eventually(joined)) return "too few applications";
    for (const auto& name : names) group.node(name).tell_members();
    return "ok";
  }
  FakeGeckod& node = group.node(one);
  if (verb == "move") {
    for (const ConnId& id : node.open_connections()) node.move_away(id, two);
  } else if (verb == "handoffs") {
    node.handoffs = two == "refuse" ? FakeGeckod::Handoffs::refuse : two == "hold" ? FakeGeckod::Handoffs::hold : FakeGeckod::Handoffs::move;
  } else if (verb == "opened") {
    return std::to_string(node.open_connections().size());
  } else if (verb == "stop") {
    node.stop();
  } else if (verb == "start") {
    node.start();
  } else if (verb == "refusals") {
    const auto refused = node.expect_message<wire::NotYielded>(ApiType::not_yielded);
    return std::to_string(refused.code) + " " + refused.reason;
  } else if (verb == "recovers") {
    node.recovers = true;
  } else if (verb == "recover") {
    wire::Arrive arrival;
    std::string state;
    words >> arrival.base.received >> arrival.base.sent;
    arrival.base.known = arrival.recovered = true;
    arrival.saved = static_cast<bool>(words >> arrival.input >> arrival.output >> state);
    arrival.blob.assign(state.begin(), state.end());
    const auto opened = node.expect_message<wire::Opened>(ApiType::opened);
    const auto leaving = node.expect(ApiType::handoff);
    const auto asked = wire::decode<wire::AppHandoff>(leaving.body);
    if (!asked || !leaving.fd || asked->id != opened.id) return "no connection is handed off";
    arrival.id = opened.id;
    arrival.epoch = opened.epoch + 1;
    arrival.flow = opened.flow;
    arrival.from = one;
    group.node(two).tell(ApiType::arrive, arrival, leaving.fd.get());
    node.answer(leaving, ApiType::outcome, wire::AppOutcome{asked->request, opened.id, 0, "", two, true});
  } else if (verb == "checkpoint") {
    const auto made = node.expect_message<wire::AppCheckpoint>(ApiType::checkpoint);
    return std::to_string(made.input) + " " + std::to_string(made.output) + " " + std::string(made.blob.begin(), made.blob.end());
  } else {
    return "unknown: " + line;
  }
  return "ok";
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> names(argv + 1, argv + argc);
  Group group;
  for (const auto& name : names) group.node(name);
  std::cout << group.dir() << std::endl;
  for (std::string line; std::getline(std::cin, line);) std::cout << obey(group, names, line) << std::endl;
}

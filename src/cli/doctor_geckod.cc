// What a running geckod says of its groups, as findings: which node, which port, what mends it.
#include <algorithm>
#include <map>

#include "cli/daemon_client.hh"
#include "cli/doctor_checks.hh"

namespace gecko::cli {
namespace {

using Level = Finding::Level;

// Beyond four fifths somebody should know before the limit does.
constexpr double kNearlyFull = 0.8;
// A backup answers within a round trip and a mirror interval. One that is later than this is not slow, something is wrong with it.
constexpr double kLate_ms = 1000;

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.0f", value);
  return text;
}

class GroupCheck {
 public:
  GroupCheck(Findings& findings, const Json& group, const config::GroupConfig* file)
      : findings_(findings), group_(group), file_(file), name_(group.at("name").get<std::string>()), prefix_("group " + name_ + ": "),
        witness_(group.value("witness", false)) {}

  void run() {
    nodes();
    running_file();
    if (const auto m = group_.find("membership"); m != group_.end()) membership(*m);
    contact();
    room();
    if (const auto p = group_.find("protection"); p != group_.end()) protection(*p);
  }

 private:
  void say(const char* check, Level level, const std::string& what, std::string why, std::string fix) {
    findings_.push_back({check, level, prefix_ + what, std::move(why), std::move(fix)});
  }
  void good(const char* check, const std::string& what) { say(check, Level::ok, what, "", ""); }

  void nodes() {
    size_t away = 0, others = 0, older = 0;
    std::map<std::string, std::string> by_config;   // what it is -> nodes
    uint64_t mine = 0;
    for (const auto& node : group_.at("nodes"))
      if (node.at("state") == "self") mine = node.value("link_version", uint64_t{0});
    for (const auto& node : group_.at("nodes")) {
      const auto name = node.at("name").get<std::string>(), state = node.at("state").get<std::string>();
      const bool votes_only = node.value("witness", false);
      const std::string unit = unit_of(votes_only), restart = "systemctl restart " + unit + " there" + (votes_only ? "" : " (connections go on)");
      if (state != "self" && state != "ok") {
        ++away;
        const auto heard = node.find("age_ms");
        say("nodes", Level::failure,
            "node " + name + " is not connected" +
                (heard != node.end() && heard->is_number() ? ", last heard " + number(heard->get<double>() / 1000) + " s ago" : ", and has not been heard") +
                (node.contains("error") ? ": " + node.at("error").get<std::string>() : ""),
            votes_only ? "the death of another node may not be survived" : "no connection can move there, and it keeps no mirrors",
            "systemctl status " + unit + ", on " + name + "; ping " + node.at("address").get<std::string>() + ", from here");
        continue;
      }
      if (state != "self" && node.value("config", "") == "differs") {
        ++others;
        say("nodes", Level::warning, "node " + name + " runs with another group file", "the nodes do not agree on where connections may be",
            "copy the file that is right to " + name + ", then " + restart);
      }
      const Json version = node.value("link_version", Json());
      if (state != "self" && version.is_number() && version.get<uint64_t>() < mine) {
        ++older;
        say("nodes", Level::warning,
            "node " + name + " has geckod " + node.value("version", "?") + " and speaks link version " + version.dump() + ", this one " + std::to_string(mine),
            "what is newer is not used with it", "upgrade gecko on " + name + ", then " + restart);
      }
    }
    if (away + others + older == 0) good("nodes", "all nodes are connected, with the same group file and link version");
  }

  // What is on the disk and what runs.
  void running_file() {
    if (file_ == nullptr || !group_.contains("digest")) return;
    if (group_.at("digest") == config::digest(*file_)) return good("running-file", "geckod runs with " + file_->file + " as it is");
    std::string fix = "the same file on all nodes, then systemctl restart geckod on one after the other (connections go on)";
    if (const auto* witness = file_->witness()) fix += ", and systemctl restart " + unit_of(true) + " on " + witness->name;
    say("running-file", Level::warning, file_->file + " has been changed since geckod was started", "the change is not in force", std::move(fix));
  }

  void membership(const Json& m) {
    if (m.contains("trouble"))
      return say("membership", Level::failure, "this node does not vote on who is a member: " + m.at("trouble").get<std::string>(),
                 "one more such node, and the group cannot go on without a dead one", "make --state-dir (/var/lib/gecko) writable, with room on its disk");
    const auto& view = m.at("view");
    if (view.is_null())
      return say("membership", Level::failure, "there is no view yet", "nobody knows who may own a connection when a node dies",
                 witness_ ? "start geckod on most of the nodes" : "start geckod on most of the nodes; for a single one: gecko member form");
    if (!m.at("member").get<bool>() && witness_)
      return say("membership", Level::failure, "this witness is not a member", "it has no vote: the death of a node may not be survived",
                 "it joins by itself where most members hear it; after a removal by hand: systemctl restart " + unit_of(true));
    if (!m.at("member").get<bool>())
      return say("membership", Level::failure, "this node is not a member", "its connections are the others' to recover, and it gets no new ones",
                 "gecko events | grep -E 'lease|view' says since when; after a removal by hand: gecko member join");
    std::string silent;
    for (const auto& name : m.at("suspected")) silent += (silent.empty() ? "" : ", ") + name.get<std::string>();
    if (!silent.empty())
      say("heartbeats", Level::warning, "no answer to heartbeats from " + silent, "when most members say so it is removed, and its connections go on elsewhere",
          "the nodes' UDP port of 'port' in the group file must be open both ways; ps -eo comm,cls,rtprio shows 'geckod: lease' as FF there");
    if (!m.at("lease").at("holds").get<bool>())
      say("lease", Level::failure, "this node has no lease: not enough members answer its heartbeats in time",
          witness_ ? "its vote may be missing when a node dies" : "what it sends of protected connections is dropped",
          "gecko status shows who is silent; a busy machine or network needs a larger [membership] lease");
    const auto ended = m.at("lease").value("expiries", uint64_t{0});
    if (ended != 0)
      say("lease", Level::note, "the lease has ended " + std::to_string(ended) + (ended == 1 ? " time" : " times") + " since geckod was started",
          "each time this node was silent, or most of the others were", "gecko events says when");
    if (m.at("lease").at("holds").get<bool>() && ended == 0 && silent.empty()) good("lease", "member with a lease that has never ended");
    const double lease = view.at("lease_ms").get<double>();
    if (file_ != nullptr && lease != file_->lease_ms)
      say("lease-time", Level::note, "the group has leases of " + number(lease) + " ms, " + file_->file + " says " + std::to_string(file_->lease_ms) + " ms",
          "leases stay as they were when the group was formed", "");
    if (file_ != nullptr && file_->heartbeat_ms * 3 > lease)
      say("lease-time", Level::warning, "a heartbeat every " + std::to_string(file_->heartbeat_ms) + " ms with a lease of " + number(lease) + " ms",
          "two heartbeats that are lost end the lease", "[membership] heartbeat of at most a third of lease in " + file_->file);
  }

  void contact() {
    if (group_.at("contact").is_string()) return good("contact", "the contact is " + group_.at("contact").get<std::string>());
    say("contact", Level::failure, "no node is contact", "clients do not reach " + group_.at("address").get<std::string>(),
        std::string("gecko contact NODE") + (witness_ ? ", at a node that serves" : "") + "; 'contact' in the group file must name a node that runs");
  }

  void fill(const char* what, double used, double limit, const std::string& where) {
    if (limit <= 0 || used < kNearlyFull * limit) return;
    full_ = true;
    say("room", Level::warning, number(used) + " of " + number(limit) + " " + what, "what is beyond is refused or dropped", where);
  }

  void room() {
    const Json limits = group_.value("limits", Json());
    if (!limits.is_object()) return;
    fill("connections", group_.at("connections").get<double>(), limits.at("connections").get<double>(),
         "[limits] connections in the group file, or one more node");
    fill("held packets", group_.at("held_packets").get<double>(), limits.at("held_packets").get<double>(),
         "[limits] held_packets in the group file; gecko events says which handoffs take so long");
    if (const auto dropped = group_.value("held_dropped", uint64_t{0}); dropped != 0)
      say("room", Level::note, std::to_string(dropped) + " held packets have been dropped since geckod was started",
          "TCP sends them again; most are of connections that nobody has", "");
    else if (!full_) good("room", "no limit is near");
  }

  void protection(const Json& p) {
    bool well = true;
    for (const auto& b : p.value("backups", Json::array())) {
      const auto node = b.at("node").get<std::string>();
      if (b.at("refused") != 0) {
        well = false;
        say("mirrors", Level::warning, "node " + node + " has no room for " + b.at("refused").dump() + " mirrors of this node's connections",
            "they end when this node dies", "one more node, or a larger 'backups' in the group file");
      }
      if (b.at("lag_ms").get<double>() > kLate_ms) {
        well = false;
        say("mirrors", Level::warning, "node " + node + " has not confirmed mirrors for " + number(b.at("lag_ms").get<double>()) + " ms",
            "what clients have been told since is not known elsewhere", "gecko status, on " + node + "; is the network between the nodes full?");
      }
    }
    for (const auto& c : p.value("classes", Json::array())) {
      if (c.at("unprotected") == 0) continue;
      well = false;
      say("protection", Level::warning, c.at("unprotected").dump() + " of " + c.at("connections").dump() + " connections of port " + c.at("port").dump() +
              " are not protected: " + c.value("why", "?"),
          "they end with this node", "gecko connections --json names them and says why (not_protected)");
    }
    if (well) good("protection", "what asks for protection has it");
  }

  Findings& findings_;
  const Json& group_;
  const config::GroupConfig* file_;
  const std::string name_, prefix_;
  const bool witness_;   // this node is the group's
  bool full_ = false;
};

}  // namespace

void check_geckod(Findings& findings, const Context& context, const std::vector<config::GroupConfig>& files, bool witness) {
  const std::string unit = unit_of(witness);
  Exit exit = Exit::ok;
  const auto status = ask_geckod(context, {{"op", "status"}}, exit);
  if (!status) {
    findings.push_back({"geckod", Level::failure, status.error().message, witness ? "this machine has no vote now" : "this machine is no node now",
                        (exit == Exit::not_running ? "systemctl start " + unit + "; " : "") + "journalctl -u " + unit +
                            (exit == Exit::not_running ? " says why it is down" : "")});
    return;
  }
  try {
    const auto version = status->at("version").get<std::string>();
    if (version == GECKO_VERSION) findings.push_back({"geckod", Level::ok, "geckod runs", "", ""});
    else findings.push_back({"geckod", Level::note, "geckod " + version + " runs, " GECKO_VERSION " is installed", "the new one is not in force",
                             "systemctl restart " + unit + (witness ? "" : " (connections go on)")});
    for (const auto& group : status->at("groups")) {
      const auto file = std::ranges::find(files, group.at("name").get<std::string>(), &config::GroupConfig::name);
      GroupCheck(findings, group, file == files.end() ? nullptr : &*file).run();
    }
  } catch (const Json::exception& e) {
    findings.push_back({"geckod", Level::failure, not_understood(e).message, "nothing can be said of its groups", "the same version of gecko and geckod"});
  }
}

}  // namespace gecko::cli

#include "node/metrics.hh"

#include "node/daemon.hh"
#include "node/prometheus.hh"

namespace gecko::node {
namespace {

double seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

class Gatherer {
 public:
  explicit Gatherer(const Daemon& daemon) : daemon_(daemon) {}

  std::string all() {
    text_.family("gecko_build_info", "gauge", "The geckod that says this: its version and the name of its node.");
    text_.sample({{"version", GECKO_VERSION}, {"node", daemon_.options().node}}, uint64_t{1});
    connections();
    contact();
    handoffs();
    recoveries();
    members();
    text_.family("gecko_held_packets", "gauge", "Packets that wait on this node while their connection changes hands.");
    text_.sample({}, static_cast<uint64_t>(daemon_.hold().packets()));
    if (const auto counters = daemon_.steering_counters()) {
      text_.family("gecko_held_packets_total", "counter", "Packets that had to wait on this node, in all.");
      text_.sample({}, (*counters)[GECKO_C_HELD]);
    }
    text_.family("gecko_held_packets_dropped_total", "counter", "Packets that had to be dropped instead: no room, or nobody knew their connection.");
    text_.sample({}, daemon_.hold().dropped());
    text_.family("gecko_events_dropped_total", "counter", "Events that this node no longer has (gecko events, gecko why): they made room for newer ones.");
    text_.sample({}, daemon_.events().dropped());
    return text_.take();
  }

 private:
  const std::string& name(const Group& group, uint16_t node) const { return group.config().nodes[node].name; }

  void connections() {
    text_.family("gecko_connections", "gauge",
                 "Live connections that this node owns, by the port of the group they were made to; \"outbound\": made from the group's address.");
    for (const auto& group : daemon_.groups()) {
      std::map<uint16_t, uint64_t> by_port;
      for (const auto port : group->config().ports) by_port[port] = 0;
      uint64_t outbound = 0;
      for (const auto& [id, connection] : group->connections()) {
        const auto port = by_port.find(connection.flow.local.port);
        ++(port == by_port.end() ? outbound : port->second);
      }
      for (const auto& [port, count] : by_port)
        text_.sample({{"group", group->config().name}, {"node", daemon_.options().node}, {"service", std::to_string(port)}}, count);
      text_.sample({{"group", group->config().name}, {"node", daemon_.options().node}, {"service", "outbound"}}, outbound);
    }
  }

  void contact() {
    text_.family("gecko_contact_info", "gauge", "Which node is the group's contact, as this node knows it; nothing: it knows none.");
    for (const auto& group : daemon_.groups())
      if (group->contact() < group->config().nodes.size())
        text_.sample({{"group", group->config().name}, {"node", name(*group, group->contact())}}, uint64_t{1});
  }

  void handoffs() {
    text_.family("gecko_handoffs_total", "counter",
                 "Handoffs that have ended, with this node as donor. stayed: the connection lives on here; lost: nobody knows.");
    for (const auto& group : daemon_.groups())
      for (const auto& [h, count] : tally(*group).handoffs)
        text_.sample({{"group", group->config().name}, {"from", name(*group, h.from)}, {"to", name(*group, h.to)}, {"cause", std::string(to_string(h.cause))},
                      {"result", std::string(to_string(h.result))}}, count);
    text_.family("gecko_handoff_gap_seconds", "histogram",
                 "How long this node, as donor, has held a connection's packets back: from its freeze until the acceptor's word that it lives there, or "
                 "until it went on here. What its client notices can be shorter (the word takes a way, too) or longer (retransmissions).");
    for (const auto& group : daemon_.groups()) text_.histogram({{"group", group->config().name}}, tally(*group).gaps);
  }

  void recoveries() {
    text_.family("gecko_recoveries_total", "counter",
                 "Connections of dead nodes whose heir this node was. elsewhere: their owner lives, or another heir has them.");
    for (const auto& group : daemon_.groups()) {
      const auto& t = tally(*group);
      uint64_t lost = 0;
      for (size_t i = static_cast<size_t>(LostIn::first_of_recovery); i < kLostIn; ++i) lost += t.lost[i];
      for (const auto& [result, count] : {std::pair{"recovered", t.recovered}, {"elsewhere", t.elsewhere}, {"lost", lost}})
        text_.sample({{"group", group->config().name}, {"result", result}}, count);
    }
    text_.family("gecko_recovery_seconds", "histogram",
                 "Of each recovered connection: from the moment when this node knew that it is the heir until the connection lived here.");
    for (const auto& group : daemon_.groups()) text_.histogram({{"group", group->config().name}}, tally(*group).recoveries);
    text_.family("gecko_connections_lost_total", "counter", "Connections that have ended by our doing, by what went wrong: in a handoff, or in a recovery.");
    for (const auto& group : daemon_.groups())
      for (size_t i = 0; i < kLostIn; ++i)
        text_.sample({{"group", group->config().name}, {"reason", std::string(to_string(static_cast<LostIn>(i)))}}, tally(*group).lost[i]);
  }

  void members() {
    const Time now = monotonic_now();
    const double wall = seconds(std::chrono::system_clock::now().time_since_epoch());
    text_.family("gecko_last_heard_timestamp_seconds", "gauge",
                 "When the link to another node last brought a message, as seconds since 1970; nothing: never yet.");
    for (const auto& group : daemon_.groups())
      for (const auto& peer : group->peers())
        if (peer.index != group->self() && peer.last_heard != Time{})
          text_.sample({{"group", group->config().name}, {"peer", name(*group, peer.index)}}, wall - seconds(now - peer.last_heard));
    text_.family("gecko_view_changes_total", "counter", "Views that this node has adopted.");
    for (const auto& group : daemon_.groups()) text_.sample({{"group", group->config().name}}, tally(*group).view_changes);
    text_.family("gecko_lease_expiries_total", "counter",
                 "How often this node's lease has ended: not enough members answered, or its lease keeper died.");
    for (const auto& group : daemon_.groups()) text_.sample({{"group", group->config().name}}, tally(*group).lease_expiries);
    text_.family("gecko_mirror_lag_seconds", "gauge", "Age of the oldest mirrors that a backup of this node's connections has not confirmed yet; 0: none.");
    for (const auto& group : daemon_.groups())
      for (const auto& lag : group->shield().mirroring().lags(now))
        text_.sample({{"group", group->config().name}, {"peer", name(*group, lag.node)}}, seconds(lag.oldest));
    text_.family("gecko_mirror_lag_bytes", "gauge", "How far this node's connections have come, both ways, beyond what a backup has confirmed.");
    for (const auto& group : daemon_.groups())
      for (const auto& lag : group->shield().mirroring().lags(now))
        text_.sample({{"group", group->config().name}, {"peer", name(*group, lag.node)}}, lag.bytes);
    text_.family("gecko_unprotected_seconds", "histogram",
                 "How long this node's connections that had lost their last backup were without one: from its leaving the view or the end of its link until "
                 "another had said that it has them.");
    for (const auto& group : daemon_.groups()) text_.histogram({{"group", group->config().name}}, group->shield().mirroring().unprotected());
  }

  const Tally& tally(const Group& group) const { return daemon_.events().tally(group.index()); }

  const Daemon& daemon_;
  PrometheusText text_;
};

}  // namespace

std::string metrics(const Daemon& daemon) { return Gatherer(daemon).all(); }

}  // namespace gecko::node

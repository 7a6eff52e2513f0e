// gecko connections: the connections this node owns.
#include "cli/daemon_client.hh"

namespace gecko::cli {

void add_connections(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("connections", "the connections this node owns");
  command->callback([&context] {
    context.run = [&context] {
      return answer(context, {{"op", "connections"}}, [](const Json& reply, bool print) {
        if (!print) return Exit::ok;
        std::vector<Row> rows = {{"CLIENT", "LOCAL", "GROUP", "STATE", "EPOCH", "AGE", "ID"}};
        for (const auto& c : reply.at("connections")) {
          const auto state = c.at("state").get<std::string>(), reason = c.value("reason", ""), leaves_for = c.value("leaves_for", "");
          std::string text = state;
          if (!c.value("movable", true)) text += ", stays";
          else if (!leaves_for.empty()) text += ", leaves for " + leaves_for;
          if (!reason.empty()) text += " (" + reason + ")";
          char age[32];
          std::snprintf(age, sizeof age, "%.1f s", c.at("age_s").get<double>());
          rows.push_back({c.at("client").get<std::string>(), c.at("local").get<std::string>(), c.at("group").get<std::string>(),
                          Cell(text, state == "live" ? Tone::good : Tone::warn), c.at("epoch").get<uint64_t>(),
                          Cell(age, Tone::plain, true), Cell(c.at("id").get<std::string>(), Tone::dim)});
        }
        print_list(rows, reply, "no connections here; 'gecko status' shows where they are");
        return Exit::ok;
      });
    };
  });
}

}  // namespace gecko::cli

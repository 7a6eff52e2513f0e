// gecko mirrors: the connections of other nodes that this one could go on with.
#include "cli/daemon_client.hh"

namespace gecko::cli {

void add_mirrors(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("mirrors", "the connections of other nodes that this one could go on with");
  command->callback([&context] {
    context.run = [&context] {
      return answer(context, {{"op", "mirrors"}}, [](const Json& reply, bool print) {
        if (!print) return Exit::ok;
        std::vector<Row> rows = {{"CLIENT", "LOCAL", "GROUP", "OWNER", "EPOCH", "ACKED", "RECEIVED", "CHECKPOINT", "INPUT", "ID"}};
        for (const auto& m : reply.at("mirrors")) {
          const Json saved = m.value("checkpoint", Json()), input = m.value("input", Json());
          const uint64_t kept = input.is_object() ? input.at("end").get<uint64_t>() - input.at("begin").get<uint64_t>() : 0;
          rows.push_back({m.at("client").get<std::string>(), m.at("local").get<std::string>(), m.at("group").get<std::string>(),
                          m.at("owner").get<std::string>(), m.at("epoch").get<uint64_t>(), m.at("acked").get<uint64_t>(), m.at("received").get<uint64_t>(),
                          saved.is_object() ? Cell(std::to_string(saved.at("bytes").get<uint64_t>()) + " B", Tone::plain, true)
                                            : Cell("none", Tone::warn, true),
                          Cell(input.is_object() ? std::to_string(kept) + " B" : "-", Tone::plain, true),
                          Cell(m.at("id").get<std::string>(), Tone::dim)});
        }
        print_list(rows, reply, "no connections of other nodes are known here; groups with recovery = \"none\" keep no mirrors");
        return Exit::ok;
      });
    };
  });
}

}  // namespace gecko::cli

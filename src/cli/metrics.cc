// gecko metrics: what this node counts and measures, as Prometheus reads it.
#include "cli/daemon_client.hh"

namespace gecko::cli {

void add_metrics(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("metrics", "what this node counts and measures, in Prometheus text format");
  command->callback([&context] {
    context.run = [&context] {
      return answer(context, {{"op", "metrics"}}, [](const Json& reply, bool print) {
        if (print) std::fputs(reply.at("text").get<std::string>().c_str(), stdout);
        return Exit::ok;
      });
    };
  });
}

}  // namespace gecko::cli

// gecko contact: make a node the contact, the one that receives packets of unknown flows.
#include "cli/daemon_client.hh"
#include "cli/table.hh"

namespace gecko::cli {

void add_contact(CLI::App& app, Context& context) {
  const auto node = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("contact", "make a node the contact: new connections arrive there; no connection is touched");
  command->add_option("node", *node, "a node of the group that may be contact")->required()->type_name("");
  command->callback([&context, node] {
    context.run = [&context, node] {
      return answer(context, {{"op", "contact"}, {"node", *node}}, [](const Json& reply, bool print) {
        if (print)
          std::printf("contact of group %s is %s (term %lu)\n", printable(reply.at("group").get<std::string>()).c_str(),
                      printable(reply.at("contact").get<std::string>()).c_str(), reply.at("term").get<unsigned long>());
        return Exit::ok;
      });
    };
  });
}

}  // namespace gecko::cli

// gecko version: of this command; that of a running geckod is in `gecko status`.
#include "cli/command.hh"

namespace gecko::cli {

void add_version(CLI::App& app, Context& context) {
  app.add_subcommand("version", "print this command's version")->callback([&context] {
    context.run = [&context] {
      if (context.json) context.print({{"schema", "gecko.version/1"}, {"version", GECKO_VERSION}});
      else std::printf("gecko %s\n", GECKO_VERSION);
      return Exit::ok;
    };
  });
}

}  // namespace gecko::cli

// gecko key: the keys of a group. One machine keeps the CA and signs; each node gets a directory with its own key.
#include <sys/stat.h>

#include <filesystem>

#include "cli/command.hh"
#include "cli/table.hh"
#include "config/keys.hh"

namespace gecko::cli {
namespace {

constexpr const char* kAuthorities = "/etc/gecko/ca";  // one directory per group

struct KeyArguments {
  std::string ca, out, name;
  std::vector<std::string> paths;
};

Json describe(const config::Certificate& c) {
  return {{"group", c.group}, {"node", c.node}, {"serial", c.serial}, {"fingerprint", c.fingerprint}, {"not_after", c.not_after}};
}

void print_certificate(const config::Certificate& c) {
  std::printf("%s of group %s\n  serial      %s\n  fingerprint %s\n  valid until %s\n", c.node.empty() ? "CA" : ("node " + c.node).c_str(),
              c.group.c_str(), c.serial.c_str(), c.fingerprint.c_str(), c.not_after.c_str());
}

// --ca, else that of --group, else the only one on this machine.
Result<std::string> authority(const Context& context, const KeyArguments& args) {
  if (!args.ca.empty()) return args.ca;
  if (!context.group.empty()) return std::string(kAuthorities) + "/" + context.group;
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kAuthorities, ignored)) found.push_back(entry.path());
  if (found.size() == 1) return found.front();
  return make_error(Errc::not_found, found.empty() ? std::string("no CA below ") + kAuthorities + "; 'gecko key init GROUP' makes one, --ca names one elsewhere"
                                                   : std::string("several CAs below ") + kAuthorities + "; say which with --group or --ca");
}

Status make_directories(const std::string& path, mode_t mode) {
  std::error_code failed;
  if (std::filesystem::create_directories(path, failed)) chmod(path.c_str(), mode);
  if (failed) return os_error("make " + path, failed.value());
  return {};
}

Exit init(const Context& context, const KeyArguments& args) {
  const std::string ca = args.ca.empty() ? std::string(kAuthorities) + "/" + args.name : args.ca;
  if (args.ca.empty()) {
    if (const auto made = make_directories(kAuthorities, 0700); !made) return context.fail(made.error());
  }
  const auto made = config::key_init(ca, args.name);
  if (!made) return context.fail(made.error());
  if (context.json) {
    context.print({{"schema", "gecko.key/1"}, {"directory", ca}, {"certificate", describe(*made)}});
  } else {
    print_certificate(*made);
    std::printf(
        "Made %s. Keep it on one machine, and a copy offline: who has ca.key can add nodes.\nNext, for each node: gecko key sign NODE --ca %s\n",
        ca.c_str(), ca.c_str());
  }
  return Exit::ok;
}

Exit sign(const Context& context, const KeyArguments& args, bool rotate) {
  const auto ca = authority(context, args);
  if (!ca) return context.fail(ca.error());
  std::string out = args.out;
  if (out.empty()) {
    if (const auto made = make_directories(*ca + "/nodes", 0700); !made) return context.fail(made.error());
    out = *ca + "/nodes/" + args.name;
  }
  const auto old = config::key_show(out + "/node.crt");
  if (rotate && !old)
    return context.fail(make_error(Errc::not_found, out + " holds no certificate of " + printable(args.name) + " to replace (" + old.error().message +
                                                        "); 'gecko key sign' makes the first"));
  const auto made = config::key_sign(*ca, args.name, out);
  if (!made) return context.fail(made.error());
  if (context.json) {
    Json answer = {{"schema", "gecko.key/1"}, {"directory", out}, {"certificate", describe(*made)}};
    if (old) answer["replaces"] = old->serial;
    context.print(answer);
    return Exit::ok;
  }
  print_certificate(*made);
  std::printf("Made %s. Next: copy it to %s as /etc/gecko/keys/%s (only root may read it; of a witness the user gecko)%s.\n", out.c_str(),
              args.name.c_str(), made->group.c_str(), old ? ", and 'systemctl reload geckod' (of a witness geckod-witness) there" : "");
  if (old) std::printf("The old certificate stays valid until it is revoked: gecko key revoke %s --ca %s\n", old->serial.c_str(), ca->c_str());
  return Exit::ok;
}

Exit revoke(const Context& context, const KeyArguments& args) {
  const auto ca = authority(context, args);
  if (!ca) return context.fail(ca.error());
  const auto serials = config::key_revoke(*ca, args.name);
  if (!serials) return context.fail(serials.error());
  if (context.json) {
    context.print({{"schema", "gecko.key-revoke/1"}, {"file", *ca + "/revoked.txt"}, {"serials", *serials}});
    return Exit::ok;
  }
  for (const auto& serial : *serials) std::printf("revoked %s\n", serial.c_str());
  std::printf(
      "Next: copy %s/revoked.txt into the key directory of every node, and 'systemctl reload geckod' (of a witness geckod-witness) there: its "
      "links to the revoked go down at once.\n",
      ca->c_str());
  return Exit::ok;
}

Exit show(const Context& context, const KeyArguments& args) {
  Json rows = Json::array();
  Exit exit = Exit::ok;
  for (const auto& path : args.paths) {
    std::string file = path;
    if (std::filesystem::is_directory(path)) file += std::filesystem::exists(path + "/node.crt") ? "/node.crt" : "/ca.crt";
    const auto certificate = config::key_show(file);
    if (!certificate) {
      exit = context.fail(certificate.error(), certificate.error().code == Errc::not_found ? Exit::no_input
                                               : certificate.error().code == Errc::invalid ? Exit::data
                                                                                           : exit_for(certificate.error().code));
      return exit;
    }
    rows.push_back(describe(*certificate));
    rows.back()["file"] = file;
    if (!context.json) print_certificate(*certificate);
  }
  if (context.json) context.print({{"schema", "gecko.key-show/1"}, {"certificates", std::move(rows)}});
  return exit;
}

}  // namespace

void add_key(CLI::App& app, Context& context) {
  const auto args = std::make_shared<KeyArguments>();
  CLI::App* key = app.add_subcommand("key", "the keys that let nodes, and nobody else, into a group");
  key->require_subcommand(1)->fallthrough();
  const auto add = [&](const char* name, const char* help, std::function<Exit()> work) {
    CLI::App* command = key->add_subcommand(name, help);
    command->fallthrough()->callback([&context, work = std::move(work)] { context.run = work; });
    return command;
  };
  const auto with_ca = [&](CLI::App* command) { command->add_option("--ca", args->ca, "the CA's directory; default /etc/gecko/ca/GROUP")->type_name("DIR"); };
  const auto with_out = [&](CLI::App* command) {
    command->add_option("--out", args->out, "the node's directory to make; default nodes/NODE in the CA's")->type_name("DIR");
  };

  CLI::App* c = add("init", "make the CA of a group, once, on one machine", [&context, args] { return init(context, *args); });
  c->add_option("group", args->name, "its name")->required()->type_name("");
  with_ca(c);
  c = add("sign", "make a node's key and certificate", [&context, args] { return sign(context, *args, false); });
  c->add_option("node", args->name, "its name in the group file")->required()->type_name("");
  with_ca(c);
  with_out(c);
  c = add("rotate", "make a new one for a node that has one; the old stays valid until revoked", [&context, args] { return sign(context, *args, true); });
  c->add_option("node", args->name, "its name in the group file")->required()->type_name("");
  with_ca(c);
  with_out(c);
  c = add("revoke", "withdraw a certificate, or all of a node", [&context, args] { return revoke(context, *args); });
  c->add_option("serial-or-node", args->name, "as 'key show' prints it, or a node's name")->required()->type_name("");
  with_ca(c);
  c = add("show", "what a certificate says", [&context, args] { return show(context, *args); });
  c->add_option("file", args->paths, "certificate, or key directory")->required()->type_name("");
}

}  // namespace gecko::cli

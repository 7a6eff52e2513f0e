#include "cli/lab_link.hh"

#include "cli/table.hh"
#include "lab/wire.hh"

namespace gecko::cli {
namespace {

using lab::Lab;

struct LinkArguments {
  std::shared_ptr<const std::string> lab_name;
  std::vector<std::string> hosts;  // none or two
  lab::LinkFaults faults;
  bool one_way = false, clear = false;
  CLI::App* command = nullptr;
};

constexpr const char* kFaultOptions[] = {"--delay", "--jitter", "--loss", "--duplicate", "--reorder", "--corrupt", "--seed"};

// Those of the named direction, or of the pair; no hosts: all.
bool concerns(const LinkArguments& args, const lab::Direction& d) {
  if (args.hosts.empty()) return true;
  return (d.from == args.hosts[0] && d.to == args.hosts[1]) || (!args.one_way && d.from == args.hosts[1] && d.to == args.hosts[0]);
}

void print_links(const std::vector<lab::LinkReport>& links) {
  if (links.empty()) {
    std::printf("no links: all packets take the plain way\n");
    return;
  }
  std::vector<Row> rows = {{"from", "to", "settings", "packets", "lost", "duplicated", "reordered", "corrupted", "dropped"}};
  for (const auto& [direction, faults, counters] : links)
    rows.push_back({direction.from, direction.to, text_of(faults), counters.packets, counters.lost, counters.duplicated, counters.reordered,
                    counters.corrupted, counters.overflowed + counters.undelivered});
  print_table(rows);
}

Exit link(const Context& context, const LinkArguments& args) {
  const auto lab = Lab::open(*args.lab_name);
  if (!lab) return context.fail(lab.error());
  bool setting = false;
  for (const char* option : kFaultOptions) setting = setting || args.command->count(option) != 0;
  if (args.hosts.size() == 1) return context.fail(make_error(Errc::invalid, "a link has two ends: gecko lab link " + args.hosts[0] + " HOST"));
  if (setting && args.clear) return context.fail(make_error(Errc::invalid, "--clear removes a link; it takes no settings"));
  if (setting && args.hosts.empty()) return context.fail(make_error(Errc::invalid, "between which hosts? gecko lab link n1 n2 --delay 20ms"));
  Status done;
  if (args.clear) done = args.hosts.empty() ? (*lab)->unlink_all() : (*lab)->unlink(args.hosts[0], args.hosts[1], args.one_way);
  else if (setting) done = (*lab)->link(args.hosts[0], args.hosts[1], args.faults, args.one_way);
  if (!done) return context.fail(done.error());
  auto links = (*lab)->links();
  if (!links) return context.fail(links.error());
  std::erase_if(*links, [&](const auto& report) { return !concerns(args, report.direction); });
  if (context.json) context.print({{"schema", "gecko.lab-links/1"}, {"name", *args.lab_name}, {"links", describe_links(*links)}});
  else if (!setting && !args.clear) print_links(*links);
  return Exit::ok;
}

}  // namespace

Json describe_links(const std::vector<lab::LinkReport>& links) {
  Json all = Json::array();
  for (const auto& [direction, faults, counters] : links)
    all.push_back({{"from", direction.from},
                   {"to", direction.to},
                   {"text", text_of(faults)},
                   {"delay_ms", faults.delay_us / 1e3},
                   {"jitter_ms", faults.jitter_us / 1e3},
                   {"loss_percent", faults.loss_ppm / 1e4},
                   {"duplicate_percent", faults.duplicate_ppm / 1e4},
                   {"reorder_percent", faults.reorder_ppm / 1e4},
                   {"corrupt_percent", faults.corrupt_ppm / 1e4},
                   {"seed", faults.seed},
                   {"packets", counters.packets},
                   {"lost", counters.lost},
                   {"duplicated", counters.duplicated},
                   {"reordered", counters.reordered},
                   {"corrupted", counters.corrupted},
                   {"overflowed", counters.overflowed},
                   {"undelivered", counters.undelivered},
                   {"under_way", counters.under_way}});
  return all;
}

void add_lab_link(CLI::App& lab, Context& context, const std::shared_ptr<const std::string>& lab_name) {
  const auto args = std::make_shared<LinkArguments>();
  args->lab_name = lab_name;
  CLI::App* l = args->command =
      lab.add_subcommand("link", "delay, lose, repeat, reorder or corrupt packets between two hosts; without options: show");
  l->fallthrough();
  l->add_option("hosts", args->hosts, "two of client, n1 to nN; none: all links")->expected(0, 2)->type_name("");
  const auto add = [&](const char* name, uint32_t* to, Result<uint32_t> (*parse)(std::string_view), const char* type, const char* help) {
    l->add_option_function<std::string>(
         name, [to, parse](const std::string& text) { *to = parse(text).value_or(0); }, help)
        ->type_name(type)
        ->check(CLI::Validator(
            [parse](std::string& text) {
              const auto value = parse(text);
              return value ? std::string() : value.error().message;
            },
            "", ""));
  };
  lab::LinkFaults& faults = args->faults;
  add("--delay", &faults.delay_us, lab::parse_link_time, "TIME", "how much longer each packet takes, one way: 20ms; us, ms or s, at most 10s");
  add("--jitter", &faults.jitter_us, lab::parse_link_time, "TIME", "up to so much longer, differently for each packet; they keep their order");
  add("--loss", &faults.loss_ppm, lab::parse_share, "SHARE", "share of the packets that get lost: 1%");
  add("--duplicate", &faults.duplicate_ppm, lab::parse_share, "SHARE", "share that comes twice");
  add("--reorder", &faults.reorder_ppm, lab::parse_share, "SHARE", "share that comes 1 to 5 ms late, so that others overtake");
  add("--corrupt", &faults.corrupt_ppm, lab::parse_share, "SHARE", "share that comes with one bit turned");
  l->add_option("--seed", faults.seed, "of the dice: the same seed, the same fates")->type_name("N");
  l->add_flag("--one-way", args->one_way, "only from the first host to the second");
  l->add_flag("--clear", args->clear, "remove the link, or all");
  l->callback([&context, args] { context.run = [&context, args] { return link(context, *args); }; });

  // What Lab::link starts; nobody's business on a command line.
  CLI::App* wire = lab.add_subcommand("wire", "carry the packets of a lab's links")->group("");
  wire->fallthrough()->callback([&context, lab_name] {
    context.run = [&context, lab_name] {
      const auto opened = Lab::open(*lab_name);
      if (!opened) return context.fail(opened.error());
      if (const auto entered = (*opened)->enter("router"); !entered) return context.fail(entered.error());
      if (const auto served = lab::run_wire(**opened); !served) return context.fail(served.error());
      return Exit::ok;
    };
  });
}

}  // namespace gecko::cli

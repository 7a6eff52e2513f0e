#include "node/witness_start.hh"

#include "node/confine.hh"
#include "node/key_copies.hh"
#include "node/lease_keeper_start.hh"
#include "node/start.hh"
#include "node/witness.hh"

namespace gecko::node {

int run_witness(const Options& options) {
  // Root reads keys that the witness, who is somebody else then, cannot. Another user's witness reads its own, also when they have been renewed.
  const bool root = ::geteuid() == 0;
  if (auto ok = prepare_runtime_dir(options.runtime_dir); !ok) return fail(ok.error());
  for (const auto& group : options.groups)
    if (auto ok = root ? copy_keys(options, group) : Status(); !ok) return fail(ok.error());
  auto states = open_states(options);   // one witness per state directory
  if (!states) return fail(states.error());
  auto listener = net::unix_listen(options.runtime_dir + "/geckod.sock", 0666);
  if (!listener) return fail(listener.error());
  auto manager = find_service_manager();   // a user that it becomes has no right to
  block_signals();
  auto keeper = connect_keeper(options, -1, [] {});
  if (!keeper) return fail(keeper.error());
  if (auto ok = confine_witness(options.user); !ok) return fail(ok.error());

  std::vector<std::shared_ptr<net::TlsContext>> contexts;
  for (const auto& group : options.groups) {
    auto context = net::TlsContext::load(group.name, options.node, root ? key_copy(options, group) : key_source(options, group));
    if (!context) return fail(context.error());
    contexts.push_back(std::move(*context));
  }
  net::Loop loop;
  Witness witness(options, loop, {std::move(*keeper), std::move(*listener), std::move(*states), std::move(manager)});
  const Fd signals = watch_signals(loop, [&] { witness.end(); }, [&] { witness.reload(); });
  if (auto ok = witness.start(contexts); !ok) return fail(ok.error());
  log_info("witness " + options.node + " is running, status at " + options.runtime_dir + "/geckod.sock");
  const int code = witness.run();
  log_info("the witness ends");
  return code;
}

}  // namespace gecko::node

#include "core/handoff_donor.hh"

namespace gecko::core {

Donor::Donation* Donor::find(uint64_t xid, Step step) {
  const auto it = donations_.find(xid);
  return it == donations_.end() || it->second.step != step ? nullptr : &it->second;
}
Donor::Donation* Donor::find(uint64_t xid, NodeIndex from, Step step) {
  Donation* found = find(xid, step);
  return found && found->move.target == from ? found : nullptr;
}

Result<uint64_t> Donor::start(Move move, Time now) {
  const auto& limits = shared_.limits;
  if (move.epoch == 0 || move.epoch > UINT64_MAX - 2)
    return make_error(Errc::invalid, "connection " + move.id.str() + ": " + std::to_string(move.epoch) + " is not an ownership epoch");
  if (move.blob.size() > wire::kMaxBlob)
    return make_error(Errc::limit, "connection " + move.id.str() + ": the application's state has " + std::to_string(move.blob.size()) +
                                       " bytes, at most " + std::to_string(wire::kMaxBlob) + " can travel");
  if (moving_.contains(move.id)) return make_error(Errc::busy, "connection " + move.id.str() + " is being moved already");
  if (donations_.size() >= limits.max_donating)
    return make_error(Errc::limit, std::to_string(donations_.size()) + " connections are being moved away already; try again when some have arrived");
  const bool local = move.target == shared_.self;
  if (!local && !shared_.links.is_up(move.target))
    return make_error(Errc::unavailable, "it is not connected to this node; see 'gecko status'");

  const uint64_t xid = next_xid_++;
  moving_.emplace(move.id, xid);
  by_target_[move.target].insert(xid);
  Donation& donation = donations_[xid];
  donation.let_go = move.yielded;
  donation.back_epoch = move.epoch;
  donation.move = std::move(move);
  if (local) {
    ask_application(xid, donation, now);
  } else {
    deadlines_.arm(donation.deadline, now + limits.step_timeout, xid);
    shared_.send(donation.move.target, wire::Prepare{xid, donation.move.id, donation.move.epoch + 1, donation.move.flow});
  }
  return xid;
}

void Donor::resume(uint64_t xid, Move move, Time now) {
  if (move.epoch == 0 || move.epoch > UINT64_MAX - 2 || moving_.contains(move.id) || donations_.contains(xid))
    return;  // read from a file: not believed blindly
  moving_.emplace(move.id, xid);
  by_target_[move.target].insert(xid);
  Donation& donation = donations_[xid];
  donation.step = Step::committed;
  donation.let_go = true;
  donation.back_epoch = move.epoch + 2;
  donation.move = std::move(move);
  if (planted(16)) return thaw(xid, donation, donation.back_epoch);       // takes back what may live at the acceptor
  deadlines_.arm(donation.deadline, now + shared_.limits.give_up, xid);   // link_up says commit again
}

void Donor::on(NodeIndex from, const wire::Ready& message, Time now) {
  if (Donation* d = find(message.xid, from, Step::preparing)) ask_application(message.xid, *d, now);
}

void Donor::ask_application(uint64_t xid, Donation& d, Time now) {
  if (d.let_go) return freeze(xid, d, now);
  d.step = Step::yielding;
  deadlines_.arm(d.deadline, now + shared_.limits.step_timeout, xid);
  shared_.out.push_back(AskYield{xid, d.move.id});
}

bool Donor::yielded(uint64_t xid, Result<wire::Bytes> blob, Time now) {
  Donation* d = find(xid, Step::yielding);
  if (!d) return false;
  if (!blob) {
    fail(xid, *d, std::move(blob.error()), true);
    return true;
  }
  d->let_go = true;
  d->move.blob = *std::move(blob);
  if (d->move.blob.size() > wire::kMaxBlob)
    fail(xid, *d, make_error(Errc::limit, "the application's state has " + std::to_string(d->move.blob.size()) + " bytes, at most " +
                                              std::to_string(wire::kMaxBlob) + " can travel"), true);
  else freeze(xid, *d, now);
  return true;
}

void Donor::withdrawn(uint64_t xid, Error why) {
  const auto it = donations_.find(xid);
  if (it == donations_.end() || it->second.failure) return;
  const Step step = it->second.step;
  if (step == Step::preparing || step == Step::yielding || step == Step::freezing) fail(xid, it->second, std::move(why), true);
}

void Donor::freeze(uint64_t xid, Donation& d, Time now) {
  d.step = Step::freezing;
  deadlines_.arm(d.deadline, now + shared_.limits.step_timeout, xid);
  shared_.out.push_back(Freeze{xid, d.move.id, d.move.flow});
}

void Donor::frozen(uint64_t xid, Result<wire::Bytes> tcp, Time now, StreamBase base) {
  Donation* d = find(xid, Step::freezing);
  if (!d) return;
  if (!tcp) {
    if (!d->failure) tell_abort(xid, *d);
    report(xid, *d, d->failure ? std::move(*d->failure) : std::move(tcp.error()), d->back_epoch, false);
    return;
  }
  if (d->failure && planted(13)) return;                                             // what froze too late stays frozen
  if (d->failure) return thaw(xid, *d, d->move.epoch);
  if (d->move.target == shared_.self) return thaw(xid, *d, d->move.epoch + 1);
  d->step = Step::sent;
  if (tcp->size() > wire::kMaxStateBytes)
    return fail(xid, *d, make_error(Errc::limit, "the connection's queues have " + std::to_string(tcp->size()) + " bytes, at most " +
                                                     std::to_string(wire::kMaxStateBytes) + " can travel"), true);
  deadlines_.arm(d->deadline, now + shared_.limits.step_timeout, xid);
  const Move& move = d->move;
  if (planted(4)) shared_.out.push_back(Retire{xid, move.id});                       // the old socket dies before the new one is there
  if (planted(10)) shared_.out.push_back(CommitMove{xid, move.id, move.flow, move.target, move.epoch + 1});  // steering flips too early
  shared_.send(move.target, wire::State{xid, move.id, move.epoch + 1, *std::move(tcp), std::move(d->move.blob), base});
  if (planted(6)) commit(xid, *d, now);                                              // ownership goes before the socket exists
}

void Donor::spoiled(uint64_t xid, Error why) {
  if (planted(17)) return;                                                           // a stale state may come to life
  if (Donation* d = find(xid, Step::sent)) fail(xid, *d, std::move(why), true);
}

void Donor::on(NodeIndex from, const wire::Restored& message, Time now) {
  if (Donation* d = find(message.xid, from, Step::sent)) return commit(message.xid, *d, now);
  // Said again on a new link: has it been committed? What is over here and still waits there never was, or nobody will ask for it again.
  if (const Donation* d = find(message.xid, from, Step::committed)) shared_.send(from, wire::Commit{message.xid, d->move.id, d->move.epoch + 1});
  else if (find(message.xid, from, Step::thawing) || !donations_.contains(message.xid)) shared_.send(from, wire::Abort{message.xid});
}

void Donor::commit(uint64_t xid, Donation& d, Time now) {
  const Move& move = d.move;
  d.step = Step::committed;
  d.back_epoch = move.epoch + (planted(12) ? 0 : 2);  // epoch + 1 has been spoken: whoever heard it must yield to a later one
  deadlines_.arm(d.deadline, now + shared_.limits.give_up, xid);
  shared_.out.push_back(CommitMove{xid, move.id, move.flow, move.target, move.epoch + 1});
  shared_.send(move.target, wire::Commit{xid, move.id, move.epoch + 1});
}

void Donor::on(NodeIndex from, const wire::Active& message) {
  Donation* d = find(message.xid, from, Step::committed);
  if (!d) return;
  shared_.out.push_back(Retire{message.xid, d->move.id});
  report(message.xid, *d, {}, d->move.epoch + 1, false);
}

void Donor::on(NodeIndex from, const wire::Unknown& message) {
  Donation* d = find(message.xid, from, Step::committed);
  if (!d) return;
  d->failure = make_error(Errc::refused, "it could not bring the connection to life");
  thaw(message.xid, *d, d->back_epoch);
}

void Donor::on(NodeIndex from, const wire::Gone& message) {
  Donation* d = find(message.xid, from, Step::committed);
  if (!d) return;
  // It may have taken and acknowledged bytes there: to go on from the old state would garble the client's stream.
  if (!planted(15)) return lose(message.xid, *d, true, "it restarted while the connection was coming to life there, and does not have it");
  d->failure = make_error(Errc::refused, "it is gone");
  thaw(message.xid, *d, d->back_epoch);
}

void Donor::on(NodeIndex from, const wire::Refuse& message) {
  // To a prepare or to a state; after commit it is a late echo of nothing.
  Donation* d = find(message.xid, from, Step::preparing);
  if (!d) d = find(message.xid, from, Step::sent);
  if (d) fail(message.xid, *d, make_error(peer_code(message.code), message.reason), false);
}

void Donor::thaw(uint64_t xid, Donation& d, uint64_t epoch) {
  d.step = Step::thawing;
  d.back_epoch = epoch;
  deadlines_.disarm(d.deadline, xid);
  shared_.out.push_back(Thaw{xid, d.move.id, d.move.flow, epoch});
}

void Donor::thawed(uint64_t xid, Status status) {
  Donation* d = find(xid, Step::thawing);
  if (!d) return;
  if (!status) return report(xid, *d, std::move(status), d->back_epoch, true);
  if (d->failure) return report(xid, *d, std::move(*d->failure), d->back_epoch, false);
  shared_.out.push_back(DeliverLocal{xid, d->move.id, d->move.flow, d->back_epoch, std::move(d->move.blob)});
  report(xid, *d, {}, d->back_epoch, false);
}

// Before commit: it stays here.
void Donor::fail(uint64_t xid, Donation& d, Error error, bool tell_acceptor) {
  if (tell_acceptor) tell_abort(xid, d);
  deadlines_.disarm(d.deadline, xid);
  if (d.step == Step::freezing) {  // the kernel's answer is still to come: wait for it, one command at a time on one socket
    d.failure = std::move(error);
  } else if (d.step == Step::sent) {
    d.failure = std::move(error);
    thaw(xid, d, d.move.epoch);
  } else {
    report(xid, d, std::move(error), d.back_epoch, false);
  }
}

void Donor::tell_abort(uint64_t xid, const Donation& d) {
  if (d.move.target != shared_.self) shared_.send(d.move.target, wire::Abort{xid});
}

// After commit and without a word that can be believed: it is the acceptor's, or it is gone with it. Never two owners.
void Donor::lose(uint64_t xid, Donation& d, bool certain, std::string why) {
  shared_.out.push_back(End{xid, d.move.id, d.move.flow, d.move.target, certain});
  report(xid, d, make_error(Errc::unavailable, std::move(why)), d.move.epoch + 1, true);
}

void Donor::report(uint64_t xid, Donation& d, Status status, uint64_t epoch, bool lost) {
  const bool give_back = !status && d.let_go && !lost;
  shared_.out.push_back(Report{xid, d.move.id, d.move.flow, d.move.target, std::move(status), epoch, give_back && !planted(11), lost});
  deadlines_.disarm(d.deadline, xid);
  moving_.erase(d.move.id);
  const auto peer = by_target_.find(d.move.target);
  peer->second.erase(xid);
  if (peer->second.empty()) by_target_.erase(peer);
  donations_.erase(xid);
}

void Donor::link_up(NodeIndex node) {
  const auto peer = by_target_.find(node);
  if (peer == by_target_.end() || planted(8)) return;
  for (const uint64_t xid : peer->second)
    if (const Donation* d = find(xid, Step::committed)) shared_.send(node, wire::Commit{xid, d->move.id, d->move.epoch + 1});
}

void Donor::link_down(NodeIndex node) {
  const auto peer = by_target_.find(node);
  if (peer == by_target_.end()) return;
  const auto affected = peer->second;  // a copy: failing removes them
  for (const uint64_t xid : affected) {
    Donation& d = donations_.at(xid);
    if (d.step == Step::committed && planted(1)) {
      d.failure = make_error(Errc::unavailable, "link lost");
      thaw(xid, d, d.back_epoch);
    }
    if (d.step == Step::committed || d.step == Step::thawing || d.failure) continue;
    fail(xid, d, make_error(Errc::unavailable, "the link to it broke"), false);
  }
}

void Donor::life_over(NodeIndex node) {
  const auto peer = by_target_.find(node);
  if (peer == by_target_.end() || node == shared_.self) return;
  const auto affected = peer->second;
  for (const uint64_t xid : affected) {
    Donation& d = donations_.at(xid);
    if (d.step == Step::thawing || d.failure) continue;
    if (d.step != Step::committed) {
      fail(xid, d, make_error(Errc::unavailable, "it has died"), false);
      continue;
    }
    // It may have lived there: only what the heir knows, and the client, can say where it stands.
    shared_.out.push_back(Retire{xid, d.move.id});
    report(xid, d, {}, d.move.epoch + 1, false);
  }
}

void Donor::expire(Time now) {
  while (deadlines_.next() <= now) {
    const uint64_t xid = deadlines_.first();
    Donation& d = donations_.at(xid);
    const std::string within = " within " + in_ms(shared_.limits.step_timeout);
    switch (d.step) {
      case Step::preparing: fail(xid, d, make_error(Errc::timeout, "it did not say whether it takes the connection" + within), true); break;
      case Step::yielding: fail(xid, d, make_error(Errc::timeout, "the application did not let go of the connection" + within), true); break;
      case Step::freezing: fail(xid, d, make_error(Errc::timeout, "the connection could not be frozen" + within), true); break;
      case Step::sent: fail(xid, d, make_error(Errc::timeout, "it did not restore the connection" + within), true); break;
      case Step::committed:
        // One last call: if this node was the one that was away (stopped), the answer is a round trip away, or already in the link.
        if (!d.last_call) {
          d.last_call = true;
          deadlines_.arm(d.deadline, now + shared_.limits.step_timeout, xid);
          shared_.send(d.move.target, wire::Commit{xid, d.move.id, d.move.epoch + 1});
          break;
        }
        lose(xid, d, false, "it did not confirm within " + in_ms(shared_.limits.give_up) + " that the connection lives there; it does, or it is lost");
        break;
      case Step::thawing: GECKO_ASSERT(false);  // has no deadline
    }
  }
}

}  // namespace gecko::core

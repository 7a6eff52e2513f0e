#include "core/recovery.hh"

#include <algorithm>

#include "core/planted.hh"

namespace gecko::core {

std::string_view to_string(LostBy reason) {
  switch (reason) {
    case LostBy::nobody_serves: return "nobody_serves";
    case LostBy::no_answer: return "no_answer";
    case LostBy::client_reset: return "client_reset";
    case LostBy::mirror_too_old: return "mirror_too_old";
    case LostBy::failed: return "failed";
  }
  return "failed";
}

std::vector<Flow> Recovery::inherit(const Owner& life, uint64_t view_epoch, const std::vector<Owner>& members, std::vector<wire::Claim> claims, Time now) {
  std::vector<Flow> taken;
  std::vector<wire::Claim> asked;
  for (auto& claim : claims) {
    if (const auto known = claims_.find(claim.flow); known != claims_.end()) {
      const bool begun = known->second.step == Step::restoring || known->second.step == Step::activating;
      if (begun || known->second.epoch >= claim.epoch) continue;
      ++left_[life];   // before: it may be the last of the same life
      forget(known);
    } else {
      ++left_[life];
    }
    Claimed claimed;
    claimed.id = claim.id;
    claimed.epoch = claim.epoch;
    claimed.life = life;
    claims_.emplace(claim.flow, claimed);
    taken.push_back(claim.flow);
    asked.push_back(std::move(claim));
  }
  if (taken.empty() && !left_.contains(life)) out_.push_back(Done{life});
  for (size_t at = 0; at < asked.size(); at += wire::kMaxClaims) {
    const auto begin = asked.begin() + static_cast<ptrdiff_t>(at);
    const auto end = asked.begin() + static_cast<ptrdiff_t>(std::min(asked.size(), at + wire::kMaxClaims));
    ask({0, view_epoch, life.node, life.incarnation, {begin, end}}, members, now);
  }
  return taken;
}

void Recovery::ask(wire::RecoverAsk message, const std::vector<Owner>& members, Time now) {
  const uint64_t request = message.request = next_request_++;
  Question& question = questions_[request];
  question.message = std::move(message);
  for (const auto& claim : question.message.claims)
    if (const auto at = claims_.find(claim.flow); at != claims_.end() && at->second.step == Step::asked) at->second.question = request;
  for (const auto& member : members)
    if (member.node != self_) question.waiting.insert(member);
  if (spoils(7)) question.waiting.clear();   // whose it is, it knows by itself
  for (const auto& member : question.waiting) out_.push_back(Ask{member.node, question.message});
  if (question.waiting.empty()) all_answered(request, now);
  else deadlines_.arm(question.deadline, now + limits_.ask_again, Key{request, {}});
}

// Who has left without an answer may have owned some, and its heir claims them now: it must be asked, and can say so only under this view.
void Recovery::view(uint64_t view_epoch, const std::vector<Owner>& members, Time now) {
  std::vector<wire::RecoverAsk> again;
  for (auto it = questions_.begin(); it != questions_.end();) {
    auto& [request, question] = *it;
    const auto is_member = [&](const Owner& o) { return std::find(members.begin(), members.end(), o) != members.end(); };
    if (std::all_of(question.waiting.begin(), question.waiting.end(), is_member)) {
      ++it;
      continue;
    }
    question.message.view_epoch = view_epoch;
    deadlines_.disarm(question.deadline, Key{request, {}});
    again.push_back(std::move(question.message));
    it = questions_.erase(it);
  }
  for (auto& message : again) ask(std::move(message), members, now);
}

void Recovery::fence() {
  for (const auto& [flow, claimed] : claims_) out_.push_back(Drop{flow, claimed.step == Step::restoring || claimed.step == Step::activating});
  claims_.clear();
  questions_.clear();
  left_.clear();
  turn_.clear();
  places_ = 0;
  deadlines_ = {};
}

void Recovery::answer(NodeIndex from, const wire::RecoverAnswer& m, Time now) {
  const auto it = questions_.find(m.request);
  if (it == questions_.end()) return;
  Question& question = it->second;
  const auto who = std::find_if(question.waiting.begin(), question.waiting.end(), [&](const Owner& o) { return o.node == from; });
  if (who == question.waiting.end()) return;   // again
  question.waiting.erase(who);
  for (const auto& owned : m.owned) {
    const auto at = claims_.find(owned.flow);
    if (at == claims_.end() || at->second.question != m.request || at->second.step != Step::asked) continue;
    out_.push_back(GiveTo{owned.flow, from, owned.epoch});
    forget(at);
  }
  if (question.waiting.empty()) all_answered(m.request, now);
}

void Recovery::all_answered(uint64_t request, Time now) {
  const auto it = questions_.find(request);
  deadlines_.disarm(it->second.deadline, Key{request, {}});
  for (const auto& claim : it->second.message.claims) {
    const auto at = claims_.find(claim.flow);
    if (at == claims_.end() || at->second.question != request || at->second.step != Step::asked) continue;
    at->second.step = Step::waiting;
    turn_.push_back(claim.flow);
  }
  questions_.erase(it);
  start_some(now);
}

std::optional<uint64_t> Recovery::asked(NodeIndex by, const wire::Claim& claim) {
  const auto at = claims_.find(claim.flow);
  if (at == claims_.end()) return std::nullopt;
  const Claimed& own = at->second;
  if (own.step == Step::activating) return own.epoch + kRecoveredEpochs;
  const bool theirs = claim.epoch > own.epoch || (claim.epoch == own.epoch && by < self_);
  if (!theirs) return own.epoch;
  out_.push_back(own.step == Step::restoring ? Action(Drop{claim.flow, true}) : Action(GiveTo{claim.flow, by, claim.epoch}));
  forget(at);
  return std::nullopt;
}

void Recovery::link_up(NodeIndex node, Time) {
  for (const auto& [request, question] : questions_)
    if (std::any_of(question.waiting.begin(), question.waiting.end(), [&](const Owner& o) { return o.node == node; }))
      out_.push_back(Ask{node, question.message});
}

bool Recovery::probes(const Flow& flow) const {
  const auto at = claims_.find(flow);
  return at != claims_.end() && at->second.step == Step::probing;
}

void Recovery::spoke(const Flow& flow) {
  const auto at = claims_.find(flow);
  if (at != claims_.end() && at->second.step == Step::waiting && !std::exchange(at->second.hurried, true)) turn_.push_front(flow);
}

void Recovery::start_some(Time now) {
  while (places_ < limits_.at_once && !turn_.empty()) {
    const Flow flow = turn_.front();
    turn_.pop_front();
    const auto at = claims_.find(flow);
    if (at == claims_.end() || at->second.step != Step::waiting) continue;
    at->second.step = Step::probing;
    at->second.probing_since = now;
    at->second.wait = limits_.first_probe;
    at->second.takes_place = true;
    ++places_;
    probe(flow, at->second, now);
  }
}

void Recovery::probe(const Flow& flow, Claimed& claimed, Time now) {
  if (!spoils(8)) deadlines_.arm(claimed.deadline, now + claimed.wait, Key{0, flow});   // (8: a probe is never lost)
  claimed.wait = std::min(claimed.wait * 2, limits_.last_probe);
  out_.push_back(Probe{flow, claimed.probes++});
}

void Recovery::answered(const Flow& flow, Time now) {
  const auto at = claims_.find(flow);
  if (at == claims_.end() || at->second.step != Step::probing) return;
  deadlines_.disarm(at->second.deadline, Key{0, flow});
  at->second.step = Step::restoring;
  out_.push_back(Rebuild{flow, at->second.epoch + kRecoveredEpochs});
  (void)now;
}

void Recovery::failed(const Flow& flow, LostBy reason, Time now) {
  const auto at = claims_.find(flow);
  if (at != claims_.end() && at->second.step != Step::restoring && at->second.step != Step::activating) lose(at, reason, false, now);
}

void Recovery::rebuilt(const Flow& flow, const Status& status, Time now) {
  const auto at = claims_.find(flow);
  if (at == claims_.end() || at->second.step != Step::restoring) return;
  if (!status) return lose(at, LostBy::failed, false, now);
  at->second.step = Step::activating;
  out_.push_back(Enliven{flow, at->second.epoch + kRecoveredEpochs});
}

void Recovery::enlivened(const Flow& flow, const Status& status, Time now) {
  const auto at = claims_.find(flow);
  if (at == claims_.end() || at->second.step != Step::activating) return;
  if (!status) return lose(at, LostBy::failed, false, now);
  out_.push_back(Arrived{flow, at->second.epoch + kRecoveredEpochs});
  forget(at);
  start_some(now);
}

void Recovery::tick(Time now) {
  while (deadlines_.next() <= now) {
    const Key key = deadlines_.first();
    if (key.question != 0) {
      Question& question = questions_.at(key.question);
      for (const auto& member : question.waiting) out_.push_back(Ask{member.node, question.message});
      deadlines_.arm(question.deadline, now + limits_.ask_again, key);
      continue;
    }
    const auto at = claims_.find(key.flow);
    if (now - at->second.probing_since >= limits_.give_up) {
      lose(at, LostBy::no_answer, false, now);
      continue;
    }
    probe(key.flow, at->second, now);
    if (now - at->second.probing_since >= limits_.patience && at->second.takes_place) {
      leave_place(at->second);
      start_some(now);
    }
  }
}

void Recovery::lose(Claims::iterator at, LostBy reason, bool restored, Time now) {
  out_.push_back(Lose{at->first, reason, restored});
  forget(at);
  start_some(now);
}

void Recovery::leave_place(Claimed& claimed) {
  if (std::exchange(claimed.takes_place, false)) --places_;
}

void Recovery::forget(Claims::iterator at) {
  Claimed& claimed = at->second;
  leave_place(claimed);
  deadlines_.disarm(claimed.deadline, Key{0, at->first});
  const Owner life = claimed.life;
  claims_.erase(at);
  const auto left = left_.find(life);
  if (--left->second != 0) return;
  left_.erase(left);
  out_.push_back(Done{life});
}

}  // namespace gecko::core

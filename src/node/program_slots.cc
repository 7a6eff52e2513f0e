#include "node/program_slots.hh"

namespace gecko::node {

Status ProgramSlots::take(uint32_t uid, bool listed) {
  const auto full = [&](size_t limit, const char* whose) {
    return make_error(Errc::limit, "geckod has no place for a program of user #" + std::to_string(uid) + ": " + std::to_string(limit) + " programs " + whose +
                                       " are connected already");
  };
  const bool root = uid == 0, stranger = !root && !listed;
  if (all_ >= limits_.all) return full(limits_.all, "in all");
  if (!root && all_ >= limits_.not_root) return full(limits_.not_root, "in all");
  if (stranger && strangers_ >= limits_.strangers) return full(limits_.strangers, "of users without rights here");
  const auto known = users_.find(uid);
  if (stranger && known != users_.end() && known->second.as_stranger >= limits_.one_stranger) return full(limits_.one_stranger, "of this user");
  User& user = users_[uid];
  ++all_;
  ++user.programs;
  if (stranger) {
    ++strangers_;
    ++user.as_stranger;
  }
  return {};
}

void ProgramSlots::give_back(uint32_t uid) {
  const auto it = users_.find(uid);
  if (it == users_.end()) return;
  --all_;
  if (it->second.as_stranger != 0) {
    --it->second.as_stranger;
    --strangers_;
  }
  if (--it->second.programs == 0) users_.erase(it);
}

}  // namespace gecko::node

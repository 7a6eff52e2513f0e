#include "policy.hh"

#include <algorithm>
#include <memory>
#include <vector>

namespace gecko::java {
namespace {

struct Policy {
  jobject object;       // global reference
  size_t first_bytes;   // 0: it does not look at them
};

// A copy: the socket that a policy is shown lives as long as the call, an object of Java may be kept. Null: no memory.
jobject client_of(JNIEnv* env, gecko_socket* socket, size_t first_bytes) {
  uint8_t id[16];
  gecko_socket_id(socket, id);
  std::vector<char> head(first_bytes);
  const ssize_t size = head.empty() ? 0 : std::max<ssize_t>(gecko_socket_peek(socket, head.data(), head.size()), 0);
  const jstring peer = to_java(env, gecko_socket_peer_text(socket));
  const jstring local = peer == nullptr ? nullptr : to_java(env, gecko_socket_local_text(socket));
  const jstring from = local == nullptr ? nullptr : to_java(env, gecko_socket_from(socket));
  const jbyteArray number = from == nullptr ? nullptr : to_java(env, id, sizeof id);
  const jbyteArray said = number == nullptr ? nullptr : to_java(env, head.data(), static_cast<size_t>(size));
  return said == nullptr ? nullptr : env->NewObject(names.client, names.new_client, peer, local, from, number, said);
}

// Where Java cannot answer, the client stays, and a decision is made with what there is.

int select_target(void* arg, gecko_socket* socket, const gecko_member* members, size_t count) {
  const auto* policy = static_cast<const Policy*>(arg);
  Upcall java;
  if (!java) return -1;
  const jobject client = client_of(java.get(), socket, policy->first_bytes);
  const jobjectArray all = client == nullptr ? nullptr : to_java(java.get(), members, count);
  jint chosen = -1;
  if (all != nullptr) chosen = java->CallStaticIntMethod(names.callbacks, names.select, policy->object, client, all);
  return java.failed() ? -1 : chosen;
}

int enough(void* arg, const void* bytes, size_t size) {
  const auto* policy = static_cast<const Policy*>(arg);
  Upcall java;
  if (!java) return 1;
  const jbyteArray head = to_java(java.get(), bytes, size);
  const bool yes = head == nullptr || java->CallStaticBooleanMethod(names.callbacks, names.enough, policy->object, head);
  return java.failed() || yes ? 1 : 0;
}

void notify_failed_handoff(void* arg, const char* target, int code, const char* message) {
  const auto* policy = static_cast<const Policy*>(arg);
  Upcall java;
  if (!java) return;
  const jstring node = to_java(java.get(), target);
  const jbyteArray text = node == nullptr ? nullptr : to_java(java.get(), message, std::char_traits<char>::length(message));
  if (text != nullptr) java->CallStaticVoidMethod(names.callbacks, names.failed, policy->object, node, static_cast<jint>(code), text);
  (void)java.failed();
}

void destroy(void* arg) {
  const std::unique_ptr<Policy> policy(static_cast<Policy*>(arg));
  if (JNIEnv* env = environment()) env->DeleteGlobalRef(policy->object);   // else the machine is gone, and the object with it
}

}  // namespace

int set_policy(JNIEnv* env, gecko_framework* framework, jobject object, const PolicyTerms& terms) {
  const bool looks = (terms.flags & GECKO_POLICY_WHEN_FIRST_BYTES) != 0;
  auto policy = std::make_unique<Policy>(Policy{env->NewGlobalRef(object), looks ? terms.first_bytes : 0});
  gecko_policy_calls calls{};
  calls.size = sizeof calls;
  calls.flags = terms.flags;
  calls.select_target = select_target;
  calls.notify_failed_handoff = notify_failed_handoff;
  calls.destroy = destroy;
  calls.first_bytes = terms.first_bytes;
  calls.first_bytes_timeout_ms = terms.patience_ms;
  calls.enough = enough;
  const int rc = gecko_framework_set_policy(framework, &calls, policy.get());
  if (rc < 0) env->DeleteGlobalRef(policy->object);   // refused before it was taken
  else (void)policy.release();
  return rc;
}

}  // namespace gecko::java

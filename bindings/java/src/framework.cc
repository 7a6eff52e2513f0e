// org.gecko.Framework.
#include <algorithm>
#include <vector>

#include "policy.hh"

namespace gecko::java {
namespace {

constexpr size_t kMaxMembers = 64;      // a group's limit
constexpr size_t kMaxOutcomes = 4096;   // what one answer of geckod holds at least

gecko_framework* framework_of(jlong object) { return from_java<gecko_framework>(object); }

jstring version(JNIEnv* env, jclass) { return to_java(env, gecko_version()); }
jstring code_name(JNIEnv* env, jclass, jint code) { return to_java(env, gecko_code_name(code)); }

jlong open(JNIEnv* env, jclass, jbyteArray group, jbyteArray daemon, jbyteArray program, jbyteArray interface) {
  const Text name(env, group), path(env, daemon), program_name(env, program), interface_name(env, interface);
  gecko_options options{};
  options.size = sizeof options;
  options.daemon = path.get();
  options.program = program_name.get();
  options.interface = interface_name.get();
  gecko_framework* framework = nullptr;
  check(env, gecko_framework_open(name.get(), &options, &framework));
  return to_java(framework);
}
void close(JNIEnv*, jclass, jlong object) { gecko_framework_close(framework_of(object)); }
void join(JNIEnv* env, jclass, jlong object) { check(env, gecko_framework_join(framework_of(object))); }
void leave(JNIEnv* env, jclass, jlong object) { check(env, gecko_framework_leave(framework_of(object))); }
jlong unaccepted(JNIEnv*, jclass, jlong object) { return static_cast<jlong>(gecko_framework_unaccepted(framework_of(object))); }
jboolean is_connected(JNIEnv*, jclass, jlong object) { return gecko_framework_is_connected(framework_of(object)) != 0; }
jboolean recovers(JNIEnv*, jclass, jlong object) { return gecko_framework_recovers(framework_of(object)) != 0; }
void set_recovery(JNIEnv* env, jclass, jlong object, jint port, jboolean wanted) {
  check(env, gecko_framework_set_recovery(framework_of(object), static_cast<uint16_t>(port), wanted ? 1 : 0));
}
void set_replicated(JNIEnv* env, jclass, jlong object, jint port, jboolean wanted) {
  check(env, gecko_framework_set_replicated(framework_of(object), static_cast<uint16_t>(port), wanted ? 1 : 0));
}

// In the order of the constants in Native.java.
jstring text(JNIEnv* env, jclass, jlong object, jint which) {
  const char* (*const calls[])(gecko_framework*) = {gecko_framework_group, gecko_framework_address, gecko_framework_node, gecko_framework_interface};
  return to_java(env, calls[which](framework_of(object)));
}
jintArray ports(JNIEnv* env, jclass, jlong object) {
  std::vector<uint16_t> all(gecko_framework_ports(framework_of(object), nullptr, 0));
  all.resize(std::min(all.size(), gecko_framework_ports(framework_of(object), all.data(), all.size())));
  const std::vector<jint> numbers(all.begin(), all.end());
  const auto size = static_cast<jsize>(numbers.size());
  const jintArray result = env->NewIntArray(size);
  if (result != nullptr) env->SetIntArrayRegion(result, 0, size, numbers.data());
  return result;
}
jobjectArray members(JNIEnv* env, jclass, jlong object, jint port) {
  std::vector<gecko_member> all(kMaxMembers);
  const int count = port == 0 ? gecko_framework_members(framework_of(object), all.data(), all.size())
                              : gecko_framework_members_on(framework_of(object), static_cast<uint16_t>(port), all.data(), all.size());
  return check(env, count) ? to_java(env, all.data(), std::min(static_cast<size_t>(count), all.size())) : nullptr;
}
void set_contact(JNIEnv* env, jclass, jlong object, jbyteArray node) { check(env, gecko_framework_set_contact(framework_of(object), Text(env, node).get())); }

jobject outcome_of(JNIEnv* env, const gecko_client_outcome& o) {
  const jstring client = to_java(env, o.client);
  const jstring from = client == nullptr ? nullptr : to_java(env, o.from);
  const jstring reason = from == nullptr ? nullptr : to_java(env, o.reason);
  if (reason == nullptr) return nullptr;
  const jobject outcome = env->NewObject(names.outcome, names.new_outcome, client, from, static_cast<jint>(o.code), reason);
  for (const jstring text : {client, from, reason}) env->DeleteLocalRef(text);
  return outcome;
}
jobjectArray handoff_client(JNIEnv* env, jclass, jlong object, jbyteArray client, jbyteArray target) {
  std::vector<gecko_client_outcome> all(kMaxOutcomes);
  const int count = gecko_framework_handoff_client(framework_of(object), Text(env, client).get(), Text(env, target).get(), all.data(), all.size());
  if (!check(env, count)) return nullptr;
  return to_java(env, names.outcome, all.data(), std::min(static_cast<size_t>(count), all.size()), outcome_of);
}

jlong connect(JNIEnv* env, jclass, jlong object, jbyteArray peer, jint timeout_ms) {
  gecko_socket* socket = nullptr;
  if (!check(env, gecko_framework_connect(framework_of(object), Text(env, peer).get(), timeout_ms, &socket))) return 0;
  return to_java(new SocketObject{socket});
}

void set_java_policy(JNIEnv* env, jclass, jlong object, jobject policy, jint flags, jint first_bytes, jint patience_ms) {
  check(env, set_policy(env, framework_of(object), policy,
                        {static_cast<uint32_t>(flags), static_cast<uint32_t>(first_bytes), static_cast<uint32_t>(patience_ms)}));
}
void set_builtin_policy(JNIEnv* env, jclass, jlong object, jbyteArray name) {
  check(env, gecko_framework_set_builtin_policy(framework_of(object), Text(env, name).get(), 0));
}

}  // namespace

Methods framework_methods() {
  static const JNINativeMethod all[] = {
      method("version", "()Ljava/lang/String;", version),
      method("codeName", "(I)Ljava/lang/String;", code_name),
      method("open", "([B[B[B[B)J", open),
      method("frameworkClose", "(J)V", close),
      method("join", "(J)V", join),
      method("leave", "(J)V", leave),
      method("unaccepted", "(J)J", unaccepted),
      method("isConnected", "(J)Z", is_connected),
      method("recovers", "(J)Z", recovers),
      method("setRecovery", "(JIZ)V", set_recovery),
      method("setReplicated", "(JIZ)V", set_replicated),
      method("frameworkText", "(JI)Ljava/lang/String;", text),
      method("ports", "(J)[I", ports),
      method("members", "(JI)[Lorg/gecko/Member;", members),
      method("setContact", "(J[B)V", set_contact),
      method("handoffClient", "(J[B[B)[Lorg/gecko/Outcome;", handoff_client),
      method("connect", "(J[BI)J", connect),
      method("setPolicy", "(JLorg/gecko/Policy;III)V", set_java_policy),
      method("setBuiltinPolicy", "(J[B)V", set_builtin_policy),
  };
  return {all, std::size(all)};
}

}  // namespace gecko::java

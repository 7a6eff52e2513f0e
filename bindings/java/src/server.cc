// org.gecko.ServerSocket.
#include "jni.hh"

namespace gecko::java {
namespace {

gecko_server* server_of(jlong object) { return from_java<gecko_server>(object); }

jlong listen(JNIEnv* env, jclass, jlong framework, jint port, jint backlog) {
  gecko_server* server = nullptr;
  check(env, gecko_server_listen(from_java<gecko_framework>(framework), static_cast<uint16_t>(port), backlog, &server));
  return to_java(server);
}
jlong accept(JNIEnv* env, jclass, jlong object, jint timeout_ms) {
  gecko_socket* socket = nullptr;
  if (!check(env, gecko_server_accept(server_of(object), timeout_ms, &socket))) return 0;
  return to_java(new SocketObject{socket});
}
jint port(JNIEnv*, jclass, jlong object) { return gecko_server_port(server_of(object)); }
void end(JNIEnv*, jclass, jlong object) { gecko_server_end(server_of(object)); }
void close(JNIEnv*, jclass, jlong object) { gecko_server_close(server_of(object)); }

}  // namespace

Methods server_methods() {
  static const JNINativeMethod all[] = {
      method("listen", "(JII)J", listen),   method("accept", "(JI)J", accept),      method("serverPort", "(J)I", port),
      method("serverEnd", "(J)V", end),     method("serverClose", "(J)V", close),
  };
  return {all, std::size(all)};
}

}  // namespace gecko::java

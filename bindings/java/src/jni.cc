#include "jni.hh"

#include <algorithm>
#include <cstring>

namespace gecko::java {

Names names{};
JavaVM* machine = nullptr;

namespace {

constexpr jint kVersion = JNI_VERSION_10;
// What one callback needs: a few strings and at most 64 members, each with two strings that are let go at once.
constexpr jint kLocals = 96;

struct Attachment {
  bool attached = false;
  ~Attachment() {
    if (attached) machine->DetachCurrentThread();
  }
};

jclass find(JNIEnv* env, const char* name) {
  const jclass local = env->FindClass(name);
  const auto global = local == nullptr ? nullptr : static_cast<jclass>(env->NewGlobalRef(local));
  if (local != nullptr) env->DeleteLocalRef(local);
  return global;
}

bool look_up(JNIEnv* env) {
  const struct {
    jclass& to;
    const char* name;
  } classes[] = {{names.bytes, "[B"},
                 {names.string, "java/lang/String"},
                 {names.native, "org/gecko/Native"},
                 {names.callbacks, "org/gecko/Callbacks"},
                 {names.exception, "org/gecko/GeckoException"},
                 {names.member, "org/gecko/Member"},
                 {names.outcome, "org/gecko/Outcome"},
                 {names.client, "org/gecko/Client"}};
  for (const auto& c : classes) {
    if ((c.to = find(env, c.name)) == nullptr) return false;
  }
  struct Method {
    jmethodID& to;
    jclass of;
    const char *name, *signature;
  };
  const Method constructors[] = {
      {names.new_string, names.string, "<init>", "([BLjava/nio/charset/Charset;)V"},
      {names.new_member, names.member, "<init>", "(Ljava/lang/String;Ljava/lang/String;ZZZIII)V"},
      {names.new_outcome, names.outcome, "<init>", "(Ljava/lang/String;Ljava/lang/String;ILjava/lang/String;)V"},
      {names.new_client, names.client, "<init>", "(Ljava/lang/String;Ljava/lang/String;Ljava/lang/String;[B[B)V"},
  };
  for (const auto& m : constructors) {
    if ((m.to = env->GetMethodID(m.of, m.name, m.signature)) == nullptr) return false;
  }
  const Method statics[] = {
      {names.new_exception, names.exception, "of", "(I[B)Lorg/gecko/GeckoException;"},
      {names.may_leave, names.callbacks, "mayLeave", "(Lorg/gecko/Socket;)Z"},
      {names.select, names.callbacks, "select", "(Lorg/gecko/Policy;Lorg/gecko/Client;[Lorg/gecko/Member;)I"},
      {names.enough, names.callbacks, "enough", "(Lorg/gecko/Policy;[B)Z"},
      {names.failed, names.callbacks, "failed", "(Lorg/gecko/Policy;Ljava/lang/String;I[B)V"},
  };
  for (const auto& m : statics) {
    if ((m.to = env->GetStaticMethodID(m.of, m.name, m.signature)) == nullptr) return false;
  }
  const jclass charsets = env->FindClass("java/nio/charset/StandardCharsets");
  const jfieldID utf8 = charsets == nullptr ? nullptr : env->GetStaticFieldID(charsets, "UTF_8", "Ljava/nio/charset/Charset;");
  if (utf8 == nullptr) return false;
  names.utf8 = env->NewGlobalRef(env->GetStaticObjectField(charsets, utf8));
  return names.utf8 != nullptr;
}

jbyteArray bytes_of(JNIEnv* env, const char* text) { return to_java(env, text, std::strlen(text)); }

}  // namespace

JNIEnv* environment() {
  void* env = nullptr;
  if (machine->GetEnv(&env, kVersion) == JNI_OK) return static_cast<JNIEnv*>(env);
  thread_local Attachment attachment;
  char name[] = "gecko";
  JavaVMAttachArgs arguments{kVersion, name, nullptr};
  if (machine->AttachCurrentThreadAsDaemon(&env, &arguments) != JNI_OK) return nullptr;
  attachment.attached = true;
  return static_cast<JNIEnv*>(env);
}

Text::Text(JNIEnv* env, jbyteArray utf8) : null_(utf8 == nullptr) {
  if (null_) return;
  text_.resize(static_cast<size_t>(env->GetArrayLength(utf8)));
  env->GetByteArrayRegion(utf8, 0, static_cast<jsize>(text_.size()), reinterpret_cast<jbyte*>(text_.data()));
}

jbyteArray to_java(JNIEnv* env, const void* data, size_t size) {
  const jbyteArray bytes = env->NewByteArray(static_cast<jsize>(size));
  if (bytes != nullptr) env->SetByteArrayRegion(bytes, 0, static_cast<jsize>(size), static_cast<const jbyte*>(data));
  return bytes;
}

jstring to_java(JNIEnv* env, const char* text) {
  const jbyteArray bytes = bytes_of(env, text);
  if (bytes == nullptr) return nullptr;
  const auto string = static_cast<jstring>(env->NewObject(names.string, names.new_string, bytes, names.utf8));
  env->DeleteLocalRef(bytes);
  return string;
}

jobject to_java(JNIEnv* env, const gecko_member& m) {
  const jstring name = to_java(env, m.name);
  const jstring address = name == nullptr ? nullptr : to_java(env, m.address);
  if (address == nullptr) return nullptr;
  const jobject member = env->NewObject(names.member, names.new_member, name, address, static_cast<jboolean>(m.up != 0), static_cast<jboolean>(m.self != 0),
                                        static_cast<jboolean>(m.contact != 0), static_cast<jint>(m.connections), static_cast<jint>(m.applications),
                                        static_cast<jint>(m.weight));
  env->DeleteLocalRef(address);
  env->DeleteLocalRef(name);
  return member;
}

jobjectArray to_java(JNIEnv* env, const gecko_member* members, size_t count) {
  return to_java<gecko_member>(env, names.member, members, count, to_java);
}

void raise(JNIEnv* env, int code, const char* text) {
  const jbyteArray message = bytes_of(env, text);
  if (message == nullptr) return;
  const auto error = static_cast<jthrowable>(env->CallStaticObjectMethod(names.exception, names.new_exception, static_cast<jint>(code), message));
  if (!env->ExceptionCheck()) env->Throw(error);
}

bool check(JNIEnv* env, long rc) {
  if (rc >= 0) return true;
  raise(env, static_cast<int>(rc), gecko_last_error());
  return false;
}

Upcall::Upcall() : env_(environment()) {
  if (env_ != nullptr && env_->PushLocalFrame(kLocals) != 0) {
    env_->ExceptionClear();
    env_ = nullptr;
  }
}
Upcall::~Upcall() {
  if (env_ != nullptr) env_->PopLocalFrame(nullptr);
}
bool Upcall::failed() {
  if (!env_->ExceptionCheck()) return false;
  env_->ExceptionClear();
  return true;
}

}  // namespace gecko::java

// The virtual machine calls it when org.gecko.Native is loaded. An error there is an error here: the exception is pending.
extern "C" JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM* vm, void*) {
  using namespace gecko::java;
  void* raw = nullptr;
  machine = vm;
  if (vm->GetEnv(&raw, kVersion) != JNI_OK) return JNI_ERR;
  auto* env = static_cast<JNIEnv*>(raw);
  if (!look_up(env)) return JNI_ERR;
  for (const Methods& methods : {framework_methods(), server_methods(), socket_methods(), stream_methods()}) {
    if (env->RegisterNatives(names.native, methods.first, methods.count) != 0) return JNI_ERR;
  }
  return kVersion;
}

// Policies that are written in Java: the library asks, Java answers.
#pragma once

#include "jni.hh"

namespace gecko::java {

struct PolicyTerms {
  uint32_t flags;                      // GECKO_POLICY_*
  uint32_t first_bytes, patience_ms;   // with GECKO_POLICY_WHEN_FIRST_BYTES
};
int set_policy(JNIEnv* env, gecko_framework* framework, jobject policy, const PolicyTerms& terms);   // a code

}  // namespace gecko::java

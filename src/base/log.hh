// The log front for programs (libraries return errors, programs log). One failure, one line on stderr, with what the
// operator can do. Format: "<level> <text>"; a service manager adds the time. No secrets, no addresses of keys.
#pragma once

#include <string>
#include <string_view>

namespace gecko {

enum class LogLevel { debug, info, warn, error };
void set_log_level(LogLevel level);
LogLevel log_level();
void set_log_name(std::string name);  // prefix: "geckod[n1]"
void log(LogLevel level, std::string_view text);
inline void log_debug(std::string_view t) { if (log_level() <= LogLevel::debug) log(LogLevel::debug, t); }
inline void log_info(std::string_view t) { log(LogLevel::info, t); }
inline void log_warn(std::string_view t) { log(LogLevel::warn, t); }
inline void log_error(std::string_view t) { log(LogLevel::error, t); }

}  // namespace gecko

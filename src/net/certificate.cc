#include "net/certificate.hh"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>

#include "base/fd.hh"

namespace gecko::net {
namespace {

constexpr size_t kMaxKeyFile = 1u << 20;

struct FreeBio { void operator()(BIO* b) const { BIO_free(b); } };
using BioPtr = std::unique_ptr<BIO, FreeBio>;

std::string hex(const unsigned char* data, size_t size) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < size; ++i) {
    out += kDigits[data[i] >> 4];
    out += kDigits[data[i] & 15];
  }
  return out;
}

// A key with a passphrase would make OpenSSL ask on the terminal: a daemon has none.
int no_passphrase(char*, int, int, void*) { return -1; }

BioPtr memory_bio(const std::string& text) { return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

}  // namespace

void FreeX509::operator()(x509_st* x) const { X509_free(x); }
void FreeKey::operator()(evp_pkey_st* k) const { EVP_PKEY_free(k); }

std::string openssl_reasons() {
  std::string out;
  while (const unsigned long code = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(code);
    if (!out.empty()) out += "; ";
    out += reason != nullptr ? std::string(reason) : "error " + std::to_string(code);
  }
  return out.empty() ? "no reason given" : out;
}

Result<std::string> read_key_file(const std::string& path, bool secret) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) {
    if (errno == ELOOP) return make_error(Errc::permission, path + " is a symbolic link; put the file itself there");
    return os_error("open " + path);
  }
  struct stat info{};
  if (fstat(fd.get(), &info) != 0) return os_error(path);
  if (!S_ISREG(info.st_mode)) return make_error(Errc::invalid, path + " is not a regular file");
  if (secret && (info.st_mode & 077) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof mode, "%04o", static_cast<unsigned>(info.st_mode & 07777));
    return make_error(Errc::permission, path + " is a private key that others may use (mode " + mode + "); run: chmod 600 " + path +
                                            " - and make a new key if somebody untrusted had access");
  }
  if (secret && info.st_uid != 0 && info.st_uid != geteuid())
    return make_error(Errc::permission, path + " is a private key that belongs to user " + std::to_string(info.st_uid) + "; run: chown " +
                                            std::to_string(geteuid()) + " " + path);
  std::string text;
  char buffer[4096];
  ssize_t got = 0;
  while ((got = read(fd.get(), buffer, sizeof buffer)) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_error("read " + path);
    if (text.size() + static_cast<size_t>(got) > kMaxKeyFile) return make_error(Errc::limit, path + " is over " + std::to_string(kMaxKeyFile) + " bytes");
    text.append(buffer, static_cast<size_t>(got));
  }
  if (secret) OPENSSL_cleanse(buffer, sizeof buffer);
  return text;
}

Result<X509Ptr> parse_certificate(const std::string& pem, const std::string& file) {
  ERR_clear_error();
  const BioPtr bio = memory_bio(pem);
  X509Ptr certificate(bio ? PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr) : nullptr);
  if (!certificate) return make_error(Errc::invalid, file + " is not a PEM certificate (" + openssl_reasons() + ")");
  const X509Ptr second(PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  if (second) return make_error(Errc::invalid, file + " holds more than one certificate; it must hold exactly one");
  return certificate;
}

Result<KeyPtr> parse_private_key(const std::string& pem, const std::string& file) {
  ERR_clear_error();
  const BioPtr bio = memory_bio(pem);
  KeyPtr key(bio ? PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr) : nullptr);
  if (!key) {
    ERR_clear_error();  // OpenSSL's reasons say nothing that helps here, and this file is secret
    return make_error(Errc::invalid, file + " is not a PEM private key without passphrase; make one with 'gecko key sign'");
  }
  ERR_clear_error();
  return key;
}

Result<Identity> identity_of(x509_st* certificate) {
  struct FreeNames { void operator()(GENERAL_NAMES* n) const { GENERAL_NAMES_free(n); } };
  const std::unique_ptr<GENERAL_NAMES, FreeNames> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  ERR_clear_error();
  if (!names || sk_GENERAL_NAME_num(names.get()) != 1)
    return make_error(Errc::invalid, "the certificate does not carry exactly one gecko://GROUP/node/NODE name");
  const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), 0);
  if (name->type != GEN_URI) return make_error(Errc::invalid, "the certificate's name is not of the form gecko://GROUP/node/NODE");
  const ASN1_IA5STRING* uri = name->d.uniformResourceIdentifier;
  return Identity::parse({reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)), static_cast<size_t>(ASN1_STRING_length(uri))});
}

std::string serial_of(x509_st* certificate) {
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate);
  return hex(ASN1_STRING_get0_data(serial), static_cast<size_t>(ASN1_STRING_length(serial)));
}

std::string fingerprint_of(x509_st* certificate) {
  unsigned char sum[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (X509_digest(certificate, EVP_sha256(), sum, &size) != 1) return {};
  return hex(sum, size);
}

std::string iso_time(const asn1_string_st* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return "an unreadable time";
  char text[32];
  if (std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) return "an unreadable time";
  return text;
}

Result<std::vector<std::string>> parse_serials(const std::string& text, const std::string& file) {
  std::vector<std::string> serials;
  size_t line_number = 0;
  for (size_t at = 0; at < text.size();) {
    ++line_number;
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    line = line.substr(0, line.find('#'));
    while (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r')) line.pop_back();
    if (line.empty()) continue;
    std::transform(line.begin(), line.end(), line.begin(), [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c; });
    const bool is_hex = std::all_of(line.begin(), line.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
    // A line that cannot be understood must not un-revoke a key: the whole file is refused.
    if (!is_hex || line.size() > 40) return make_error(Errc::invalid, file + ":" + std::to_string(line_number) + ": not a serial number in hex");
    if (line.size() % 2 != 0) line.insert(line.begin(), '0');
    while (line.size() > 2 && line.starts_with("00")) line.erase(0, 2);
    serials.push_back(std::move(line));
  }
  return serials;
}

}  // namespace gecko::net

#include "config/keys.hh"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <sstream>

#include "base/fd.hh"
#include "config/words.hh"
#include "net/certificate.hh"

namespace gecko::config {
namespace {

using net::KeyPtr;
using net::X509Ptr;

// Expiry is not how a node is removed (revocation is), and an expired CA stops a whole cluster: generous on purpose.
constexpr int kAuthorityDays = 20 * 365;
constexpr int kNodeDays = 5 * 365;
// Clocks of new machines run up to this far behind the signing one and must still accept a fresh certificate.
constexpr long kBackdatedSeconds = 3600;

struct FreeBio { void operator()(BIO* b) const { BIO_free(b); } };
using BioPtr = std::unique_ptr<BIO, FreeBio>;

Error crypto_error(const std::string& doing) { return make_error(Errc::internal, doing + ": " + net::openssl_reasons()); }

// --- a key directory ------------------------------------------------------------------------------------------------------

class Directory {
 public:
  // `create`: made 0700 if missing. A directory that others may enter is refused: it holds private keys.
  static Result<Directory> open(const std::string& path, bool create) {
    if (create && mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return os_error("create directory " + path);
    Directory dir;
    dir.path_ = path;
    dir.fd_ = Fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!dir.fd_) {
      struct stat info{};
      if (lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode))
        return make_error(Errc::permission, path + " is a symbolic link; name the directory itself");
      return os_error("open directory " + path);
    }
    struct stat info{};
    if (fstat(dir.fd_.get(), &info) != 0) return os_error(path);
    if ((info.st_mode & 077) != 0)
      return make_error(Errc::permission, path + " holds private keys and may be used by others than its owner; run: chmod 700 " + path);
    if (info.st_uid != geteuid() && info.st_uid != 0)
      return make_error(Errc::permission, path + " belongs to user " + std::to_string(info.st_uid) + "; run: chown " + std::to_string(geteuid()) + " " + path);
    dir.device_ = info.st_dev;
    dir.inode_ = info.st_ino;
    return dir;
  }

  std::string file(const std::string& name) const { return path_ + "/" + name; }
  bool is_same(const Directory& other) const { return device_ == other.device_ && inode_ == other.inode_; }

  // Something is there, be it a dangling symbolic link.
  bool has(const std::string& name) const {
    struct stat info{};
    return fstatat(fd_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
  }

  // One writer at a time. Released when this object goes.
  Status lock() {
    int rc = 0;
    do rc = flock(fd_.get(), LOCK_EX);
    while (rc != 0 && errno == EINTR);
    if (rc != 0) return os_error("lock " + path_);
    return {};
  }

  Status write_new(const std::string& name, const std::string& text, mode_t mode) const {
    const Fd fd(openat(fd_.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
    if (!fd) return os_error("create " + file(name));
    if (fchmod(fd.get(), mode) != 0) return os_error("set the mode of " + file(name));
    return write_all(fd, name, text);
  }

  // All or nothing: written beside, then renamed over.
  Status replace(const std::string& name, const std::string& text, mode_t mode) const {
    const std::string beside = name + ".new";
    if (unlinkat(fd_.get(), beside.c_str(), 0) != 0 && errno != ENOENT) return os_error("remove " + file(beside));
    GECKO_CHECK(write_new(beside, text, mode));
    if (renameat(fd_.get(), beside.c_str(), fd_.get(), name.c_str()) != 0) return os_error("rename " + file(beside) + " to " + name);
    if (fsync(fd_.get()) != 0) return os_error("sync " + path_);
    return {};
  }

  Status append(const std::string& name, const std::string& text) const {
    const Fd fd(openat(fd_.get(), name.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) return os_error("open " + file(name));
    return write_all(fd, name, text);
  }

  Status remove(const std::string& name) const {
    if (unlinkat(fd_.get(), name.c_str(), 0) != 0 && errno != ENOENT) return os_error("remove " + file(name));
    return {};
  }

 private:
  Status write_all(const Fd& fd, const std::string& name, std::string_view text) const {
    while (!text.empty()) {
      const ssize_t n = write(fd.get(), text.data(), text.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return os_error("write " + file(name));
      text.remove_prefix(static_cast<size_t>(n));
    }
    if (fsync(fd.get()) != 0) return os_error("sync " + file(name));
    return {};
  }

  std::string path_;
  Fd fd_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// --- making certificates --------------------------------------------------------------------------------------------------

Result<KeyPtr> new_key() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return crypto_error("make a P-256 key");
  return key;
}

// 127 random bits: unique without a counter, positive, no leading zero byte (so that its hex form is the same everywhere).
Status set_serial(X509* certificate) {
  unsigned char bytes[16];
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) return os_error("get random bytes");
  bytes[0] = static_cast<unsigned char>((bytes[0] & 0x7f) | 0x40);
  struct FreeNumber { void operator()(BIGNUM* n) const { BN_free(n); } };
  const std::unique_ptr<BIGNUM, FreeNumber> number(BN_bin2bn(bytes, sizeof bytes, nullptr));
  if (!number || BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) == nullptr) return crypto_error("set a serial number");
  return {};
}

Status add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  struct FreeExtension { void operator()(X509_EXTENSION* e) const { X509_EXTENSION_free(e); } };
  const std::unique_ptr<X509_EXTENSION, FreeExtension> extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  if (!extension || X509_add_ext(certificate, extension.get(), -1) != 1) return crypto_error("add a certificate extension");
  return {};
}

// `issuer` null: self-signed (an authority).
Result<X509Ptr> new_certificate(const Identity& identity, EVP_PKEY* key, X509* issuer, EVP_PKEY* issuer_key) {
  X509Ptr certificate(X509_new());
  if (!certificate || X509_set_version(certificate.get(), X509_VERSION_3) != 1) return crypto_error("make a certificate");
  GECKO_CHECK(set_serial(certificate.get()));
  const int days = identity.is_authority() ? kAuthorityDays : kNodeDays;
  if (X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -kBackdatedSeconds) == nullptr ||
      X509_time_adj_ex(X509_getm_notAfter(certificate.get()), days, 0, nullptr) == nullptr)
    return crypto_error("set a certificate's dates");
  X509_NAME* name = X509_get_subject_name(certificate.get());
  const auto add_name = [&](const char* field, const std::string& value) {
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, reinterpret_cast<const unsigned char*>(value.data()), static_cast<int>(value.size()),
                                      -1, 0) == 1;
  };
  if (!add_name("O", identity.group) || !add_name("CN", identity.is_authority() ? "Gecko group CA" : identity.node)) return crypto_error("name a certificate");
  X509* const from = issuer == nullptr ? certificate.get() : issuer;
  if (X509_set_issuer_name(certificate.get(), X509_get_subject_name(from)) != 1 || X509_set_pubkey(certificate.get(), key) != 1)
    return crypto_error("fill a certificate");
  if (identity.is_authority()) {
    GECKO_CHECK(add_extension(certificate.get(), from, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
    GECKO_CHECK(add_extension(certificate.get(), from, NID_key_usage, "critical,keyCertSign,cRLSign"));
  } else {
    GECKO_CHECK(add_extension(certificate.get(), from, NID_basic_constraints, "critical,CA:FALSE"));
    GECKO_CHECK(add_extension(certificate.get(), from, NID_key_usage, "critical,digitalSignature"));
    GECKO_CHECK(add_extension(certificate.get(), from, NID_ext_key_usage, "serverAuth,clientAuth"));
  }
  GECKO_CHECK(add_extension(certificate.get(), from, NID_subject_key_identifier, "hash"));
  GECKO_CHECK(add_extension(certificate.get(), from, NID_authority_key_identifier, "keyid:always"));
  GECKO_CHECK(add_extension(certificate.get(), from, NID_subject_alt_name, "URI:" + identity.uri()));
  if (X509_sign(certificate.get(), issuer_key, EVP_sha256()) == 0) return crypto_error("sign a certificate");
  return certificate;
}

std::string drain(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

Result<std::string> to_pem(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio_X509(bio.get(), certificate) != 1) return crypto_error("write a certificate");
  return drain(bio.get());
}

// The text of a private key, wiped when it goes.
struct SecretText {
  std::string text;
  ~SecretText() { OPENSSL_cleanse(text.data(), text.size()); }
};
Status to_pem(EVP_PKEY* key, SecretText& out) {
  const BioPtr bio(BIO_new(BIO_s_secmem()));
  if (!bio || PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) return crypto_error("write a private key");
  out.text = drain(bio.get());
  return {};
}

Result<Certificate> describe(X509* certificate) {
  GECKO_TRY(const Identity identity, net::identity_of(certificate));
  return Certificate{identity.group, identity.node, net::serial_of(certificate), net::fingerprint_of(certificate),
                     net::iso_time(X509_get0_notAfter(certificate))};
}

Result<X509Ptr> load_certificate(const std::string& file) {
  GECKO_TRY(const std::string pem, net::read_key_file(file, false));
  return net::parse_certificate(pem, file);
}

// --- what was issued -------------------------------------------------------------------------------------------------------

struct Issued {
  std::string serial, node;
};
Result<std::vector<Issued>> read_issued(const Directory& ca) {
  std::vector<Issued> issued;
  if (!ca.has("issued.txt")) return issued;
  GECKO_TRY(const std::string text, net::read_key_file(ca.file("issued.txt"), false));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    Issued one;
    if (words >> one.serial >> one.node) issued.push_back(std::move(one));
  }
  return issued;
}

// What `out` may hold already: nothing, or older keys of the same node of the same CA.
Status check_target(const Directory& out, const Identity& identity, X509* authority) {
  if (out.has("ca.crt")) {
    GECKO_TRY(const X509Ptr present, load_certificate(out.file("ca.crt")));
    if (X509_cmp(present.get(), authority) != 0)
      return make_error(Errc::exists, out.file("ca.crt") + " is another CA's certificate; use another directory, or remove that file to replace the CA");
  }
  if (!out.has("node.crt")) {
    if (out.has("node.key")) return make_error(Errc::exists, out.file("node.key") + " exists without node.crt; move it away");
    return {};
  }
  GECKO_TRY(const X509Ptr present, load_certificate(out.file("node.crt")));
  const auto other = net::identity_of(present.get());
  if (!other || *other != identity)
    return make_error(Errc::exists, out.file("node.crt") + " belongs to " +
                                        (other ? "node '" + other->node + "' of group '" + other->group + "'" : std::string("something else")) +
                                        "; use another directory for node '" + identity.node + "' of group '" + identity.group + "'");
  return {};
}

bool looks_like_serial(std::string_view text) {
  return text.size() >= 8 && text.size() <= 40 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

Result<Certificate> key_init(const std::string& dir, const std::string& group) {
  if (!valid_name(group)) return make_error(Errc::invalid, "group name " + shown(group) + ": " + std::string(kNameRule));
  GECKO_TRY(Directory ca, Directory::open(dir, true));
  GECKO_CHECK(ca.lock());
  for (const char* name : {"ca.key", "ca.crt"})
    if (ca.has(name)) return make_error(Errc::exists, ca.file(name) + " exists: this directory has a CA already; use another one");
  GECKO_TRY(const KeyPtr key, new_key());
  GECKO_TRY(const X509Ptr certificate, new_certificate({group, ""}, key.get(), nullptr, key.get()));
  SecretText key_text;
  GECKO_CHECK(to_pem(key.get(), key_text));
  GECKO_TRY(const std::string pem, to_pem(certificate.get()));
  GECKO_CHECK(ca.write_new("ca.key", key_text.text, 0600));
  if (auto written = ca.write_new("ca.crt", pem, 0644); !written) {
    (void)ca.remove("ca.key");  // half a CA would only be in the way
    return written.error();
  }
  return describe(certificate.get());
}

Result<Certificate> key_sign(const std::string& ca_dir, const std::string& node, const std::string& out_dir) {
  if (!valid_name(node)) return make_error(Errc::invalid, "node name " + shown(node) + ": " + std::string(kNameRule));
  GECKO_TRY(Directory ca, Directory::open(ca_dir, false));
  GECKO_CHECK(ca.lock());
  GECKO_TRY(SecretText authority_text, [&]() -> Result<SecretText> {
    GECKO_TRY(std::string text, net::read_key_file(ca.file("ca.key"), true));
    return SecretText{std::move(text)};
  }());
  GECKO_TRY(const KeyPtr authority_key, net::parse_private_key(authority_text.text, ca.file("ca.key")));
  GECKO_TRY(const X509Ptr authority, load_certificate(ca.file("ca.crt")));
  GECKO_TRY(const Identity authority_identity, net::identity_of(authority.get()));
  if (!authority_identity.is_authority()) return make_error(Errc::invalid, ca.file("ca.crt") + " is the certificate of a node, not of a CA");
  if (X509_check_private_key(authority.get(), authority_key.get()) != 1) {
    (void)net::openssl_reasons();
    return make_error(Errc::invalid, ca.file("ca.key") + " does not belong to ca.crt beside it");
  }
  if (X509_cmp_current_time(X509_get0_notAfter(authority.get())) <= 0)
    return make_error(Errc::invalid, ca.file("ca.crt") + " expired at " + net::iso_time(X509_get0_notAfter(authority.get())) +
                                         "; make a new CA with 'gecko key init'");

  const Identity identity{authority_identity.group, node};
  GECKO_TRY(Directory out, Directory::open(out_dir, true));
  GECKO_CHECK(check_target(out, identity, authority.get()));
  GECKO_TRY(const KeyPtr key, new_key());
  GECKO_TRY(const X509Ptr certificate, new_certificate(identity, key.get(), authority.get(), authority_key.get()));
  GECKO_TRY(const Certificate description, describe(certificate.get()));
  SecretText key_text;
  GECKO_CHECK(to_pem(key.get(), key_text));
  GECKO_TRY(const std::string pem, to_pem(certificate.get()));
  GECKO_TRY(const std::string authority_pem, to_pem(authority.get()));

  // Recorded before it exists anywhere: whatever was ever signed can be revoked by its node's name.
  GECKO_CHECK(ca.append("issued.txt", description.serial + " " + node + " " + description.not_after + "\n"));
  if (!out.is_same(ca)) {
    GECKO_CHECK(out.replace("ca.crt", authority_pem, 0644));
    if (ca.has("revoked.txt")) {
      GECKO_TRY(const std::string revoked, net::read_key_file(ca.file("revoked.txt"), false));
      GECKO_CHECK(out.replace("revoked.txt", revoked, 0644));
    }
  }
  GECKO_CHECK(out.replace("node.key", key_text.text, 0600));
  GECKO_CHECK(out.replace("node.crt", pem, 0644));
  return description;
}

Result<std::vector<std::string>> key_revoke(const std::string& ca_dir, const std::string& node_or_serial) {
  GECKO_TRY(Directory ca, Directory::open(ca_dir, false));
  GECKO_CHECK(ca.lock());
  if (!ca.has("ca.key")) return make_error(Errc::not_found, ca_dir + " has no ca.key; revoke where the group's CA is, then copy revoked.txt to the nodes");
  GECKO_TRY(const auto issued, read_issued(ca));
  std::vector<std::string> serials, names;
  for (const auto& one : issued) {
    if (one.node == node_or_serial) serials.push_back(one.serial);
    if (std::find(names.begin(), names.end(), one.node) == names.end()) names.push_back(one.node);
  }
  if (serials.empty()) {
    std::string serial = node_or_serial;
    std::transform(serial.begin(), serial.end(), serial.begin(), [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c; });
    // A serial that issued.txt does not know is accepted: the file may have been lost, the key is still to be shut out.
    if (!looks_like_serial(serial))
      return make_error(Errc::not_found, shown(node_or_serial) + " is neither a node this CA has signed (" + ca.file("issued.txt") +
                                             ") nor a serial number in hex" + did_you_mean(node_or_serial, names));
    serials.push_back(std::move(serial));
  }
  std::string text;
  std::vector<std::string> present;
  if (ca.has("revoked.txt")) {
    GECKO_TRY(text, net::read_key_file(ca.file("revoked.txt"), false));
    GECKO_TRY(present, net::parse_serials(text, ca.file("revoked.txt")));
  }
  if (!text.empty() && text.back() != '\n') text += '\n';
  bool changed = false;
  for (const auto& serial : serials) {
    if (std::find(present.begin(), present.end(), serial) != present.end()) continue;
    const auto known = std::find_if(issued.begin(), issued.end(), [&](const Issued& one) { return one.serial == serial; });
    text += serial + (known != issued.end() ? "  # node " + known->node : std::string()) + "\n";
    changed = true;
  }
  if (changed) GECKO_CHECK(ca.replace("revoked.txt", text, 0644));
  return serials;
}

Result<Certificate> key_show(const std::string& certificate_file) {
  GECKO_TRY(const X509Ptr certificate, load_certificate(certificate_file));
  auto description = describe(certificate.get());
  if (!description) return make_error(Errc::invalid, certificate_file + ": " + description.error().message);
  return description;
}

}  // namespace gecko::config

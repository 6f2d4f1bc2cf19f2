// Streamer: byte ranges of the weight files, read from the drive straight into memory while the step
// computes.
//
// In: ranges of files, any offset and length, and where they go. Out: a Ticket for all of them. Reads go
// past the page cache (O_DIRECT) in whole blocks of kStreamBlock bytes, cut into chunks so that the drive
// always has `depth` of them to work on; a slot therefore takes the blocks that enclose its range.
//
// Threads: all calls come from one thread (the step's), but for stats(), Describe() and Notices(), which any
// may call. One thread of the streamer's own submits and reaps; it sleeps in the kernel when there is nothing
// to do. Only Wait and the destructor block. Read allocates nothing.
//
// Memory: `to` belongs to the caller and must live, and stay untouched, until Settled.
//
// Errors (kIo, by Wait): a read that failed after its retries, a file that ended early, a file that is no
// longer the one opened, a drive that does not answer for `stall_timeout`. Each names file, offset, wanted
// and got. A failing request stops no other one, except that a file found changed fails every later read of
// it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/file.h"
#include "runtime/core/result.h"
#include "runtime/core/ticket.h"

namespace moraine {

class StreamBackend;

/// What O_DIRECT asks of offset, length and address: the logical block of every drive in use divides it.
inline constexpr int64_t kStreamBlock = 4096;

/// Ranges one Read takes at most.
inline constexpr int kMaxStreamRanges = 16;

/// In order of urgency: a more urgent class is always started first, within a class the first asked for.
enum class ReadClass : uint8_t {
  kDemand,     // the step waits for it
  kLookAhead,  // probably wanted soon
  kWarmUp,     // wanted some day
};

/// files[file] bytes [offset, offset + bytes) to [to, to + bytes). `to` is congruent to `offset` modulo
/// kStreamBlock, and the blocks of memory that enclose it, from `to` rounded down to its end rounded up, are
/// the streamer's to overwrite. Ranges of one Read whose blocks overlap are one stretch of one file.
struct StreamRange {
  int32_t file = 0;
  int64_t offset = 0;
  int64_t bytes = 0;
  std::byte* to = nullptr;
};

enum class StreamBackendKind : uint8_t {
  kAuto,   // io_uring, or threads where the system refuses it (a notice says why)
  kUring,  // io_uring, or an error
  kPread,  // `depth` threads a device that call pread
};

struct StreamerOptions {
  StreamBackendKind backend = StreamBackendKind::kAuto;
  int depth = 16;                                   // chunks under way, for each device (st_dev) of `files`
  int background_depth = 8;                         // of them at most so many that are not demand
  int64_t chunk_bytes = int64_t{1} << 20;           // a multiple of kStreamBlock
  bool direct = true;                               // false: through the page cache
  int retries = 3;                                  // of one chunk after EIO, EAGAIN, EINTR or nothing read
  std::chrono::milliseconds stall_timeout{20'000};  // a drive that gives nothing for so long hangs
  std::chrono::milliseconds check_every{1'000};     // how long a look at a file (is it the one opened?) holds
  int max_requests = 1024;                          // not yet released; one more is a bug of the caller
  /// Memory that `to` will point into, registered with the ring where the limit on locked memory allows
  /// (which makes all of it resident at Open); it outlives the streamer. Reads elsewhere work as well.
  std::vector<std::span<std::byte>> memory;
};

/// Counts since Open.
struct StreamerStats {
  int64_t requests = 0;
  int64_t wanted_bytes = 0;  // what ranges asked for
  int64_t read_bytes = 0;    // what came, with the rest of the blocks and what was read again
  int64_t reads = 0;         // chunks handed to the system, retries included
  int64_t retries = 0;
  int64_t short_reads = 0;  // came back with less than was needed, and were gone on with
  int64_t errors = 0;       // requests that failed, not counting dropped ones
  int64_t stalls = 0;       // of those, for want of an answer
  int64_t adopted = 0;      // requests raised to demand before they had ended
  int64_t dropped = 0;      // requests dropped before they had ended
  int max_depth = 0;        // most chunks under way at once
  double mean_depth = 0;    // chunks under way when one was started, itself included
  double busy_seconds = 0;  // with at least one chunk under way
  double cpu_seconds = 0;   // of the streamer's threads
};

class Streamer final : public TicketSource {
 public:
  /// `files` outlive the streamer; indices into it are StreamRange::file. kUsage: an option out of range.
  /// kIo: no descriptor or thread left, or a file is no longer the one that was opened. kHardware: io_uring
  /// was demanded and is refused.
  static Result<std::unique_ptr<Streamer>> Open(std::span<const File> files, const StreamerOptions& options);
  /// The same over a backend of the caller's: how tests bring a drive that fails.
  static Result<std::unique_ptr<Streamer>> Open(std::span<const File> files, const StreamerOptions& options,
                                                std::unique_ptr<StreamBackend> backend);
  /// Drops what has not been started and waits for the rest, however long the drive takes: it writes into
  /// memory of the caller's.
  ~Streamer() override;
  Streamer(const Streamer&) = delete;
  Streamer& operator=(const Streamer&) = delete;

  /// Asks for all of `ranges` (at most kMaxStreamRanges, each inside its file). Never blocks. The ticket's
  /// number() is the request's name below, until Release. CHECKs that fewer than max_requests are held.
  Ticket Read(std::span<const StreamRange> ranges, ReadClass urgency);

  /// Makes what is not yet started as urgent as `urgency`, if that is more: a look-ahead that turns into a
  /// demand is not read twice. It goes behind others of its new class.
  void Raise(uint64_t number, ReadClass urgency);

  /// Forgets what has not been started. True when nothing had been: the request ends at once. Otherwise it
  /// ends when what was started has come. Wait then says kInterrupted, unless all of it was under way
  /// already. No effect on a request that has ended.
  bool Drop(uint64_t number);

  /// The request's outcome; blocks until it is known.
  Status Wait(uint64_t number) override;
  bool Done(uint64_t number) override;

  /// True when nothing is under way for it any more, so that its memory may be used for something else. The
  /// same as Done but for a request that failed because the drive stalled: its reads may still arrive.
  bool Settled(uint64_t number);

  /// Ends the request's number. CHECKs Settled.
  void Release(uint64_t number);

  /// How many more requests Read would take now.
  int Room() const;

  StreamerStats stats() const;
  /// One line: "io_uring, O_DIRECT, depth 16 x 1 MiB on 1 device, files and buffers registered".
  std::string Describe() const;
  /// What fell back and why, each said once: io_uring refused, reads through the page cache, memory not
  /// registered.
  std::vector<std::string> Notices() const;

 private:
  class Impl;
  explicit Streamer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moraine

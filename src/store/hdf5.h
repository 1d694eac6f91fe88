// The few HDF5 operations that shard files need. Errors are Error(Exit::data) when reading and
// Error(Exit::storage) when writing; they name file, object and the library's own message.
// Call from one thread at a time.
#pragma once
#include <memory>
#include <string>

#include "tensor/tensor.h"

namespace cohort {

// Makes a file in memory, byte-reproducible: the library never writes to a disk, whose errors it
// does not survive.
class Hdf5Writer {
 public:
  explicit Hdf5Writer(const std::string& name);  // for messages
  ~Hdf5Writer();
  void group(const std::string& name);
  // Chunked, uncompressed, allocated at once; `data` holds count(dims) little-endian elements.
  void dataset(const std::string& name, const View& data, const Shape& chunk);
  std::string bytes();  // the whole file; call last

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct Hdf5Dataset {
  DType dtype = DType::f32;
  Shape shape, chunk;
};

class Hdf5Reader {
 public:
  explicit Hdf5Reader(const std::string& path);  // without file locking
  ~Hdf5Reader();
  Hdf5Dataset dataset(const std::string& name) const;
  // Where the chunk that starts at row `row` lies in the file; `bytes` is its stored size.
  struct Place {
    i64 offset = 0, bytes = 0;
  };
  Place chunk(const std::string& name, i64 row) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cohort

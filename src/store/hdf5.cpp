#include "store/hdf5.h"

#include <hdf5.h>

#include <vector>

#include "base/error.h"

namespace cohort {
namespace {

class Id {
 public:
  Id(hid_t id, herr_t (*closer)(hid_t)) : id_(id), close_(closer) {}
  ~Id() {
    if (id_ >= 0) static_cast<void>(close_(id_));
  }
  Id(const Id&) = delete;
  Id& operator=(const Id&) = delete;
  hid_t get() const { return id_; }
  herr_t close() {
    const hid_t id = id_;
    id_ = -1;
    return close_(id);
  }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

herr_t first_message(unsigned, const H5E_error2_t* error, void* out) {
  std::string& text = *static_cast<std::string*>(out);
  if (text.empty() && error->desc != nullptr) text = error->desc;
  return 0;
}

[[noreturn]] void failed(Exit code, const std::string& path, const std::string& what) {
  std::string text;
  static_cast<void>(H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, &first_message, &text));
  fail(code, "{}: HDF5: {} failed: {}", path, what, text.empty() ? "no detail" : text);
}

void quiet() { static_cast<void>(H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr)); }

hid_t file_type(DType type) {
  switch (type) {
    case DType::f32: return H5T_IEEE_F32LE;
    case DType::f64: return H5T_IEEE_F64LE;
    case DType::i32: return H5T_STD_I32LE;
    case DType::i64: return H5T_STD_I64LE;
    case DType::u8: return H5T_STD_U8LE;
    case DType::bf16:   // of devices only
    case DType::f16: break;
  }
  broken(__FILE__, __LINE__, "unknown element type");
}

std::vector<hsize_t> extents(const Shape& shape) { return {shape.begin(), shape.end()}; }

}  // namespace

struct Hdf5Writer::State {
  std::string path;
  std::unique_ptr<Id> file;
  void ok(bool good, const std::string& what) const {
    if (!good) failed(Exit::storage, path, what);
  }
};

Hdf5Writer::Hdf5Writer(const std::string& name) : state_(std::make_unique<State>()) {
  quiet();
  state_->path = name;
  Id creation(H5Pcreate(H5P_FILE_CREATE), &H5Pclose);
  Id access(H5Pcreate(H5P_FILE_ACCESS), &H5Pclose);
  state_->ok(H5Pset_obj_track_times(creation.get(), false) >= 0, "H5Pset_obj_track_times");
  state_->ok(H5Pset_libver_bounds(access.get(), H5F_LIBVER_EARLIEST, H5F_LIBVER_V18) >= 0,
             "H5Pset_libver_bounds");
  state_->ok(H5Pset_fapl_core(access.get(), std::size_t{1} << 20, false) >= 0, "H5Pset_fapl_core");
  state_->file = std::make_unique<Id>(
      H5Fcreate(name.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), &H5Fclose);
  state_->ok(state_->file->get() >= 0, "create");
}
Hdf5Writer::~Hdf5Writer() = default;

void Hdf5Writer::group(const std::string& name) {
  Id creation(H5Pcreate(H5P_GROUP_CREATE), &H5Pclose);
  state_->ok(H5Pset_obj_track_times(creation.get(), false) >= 0, "H5Pset_obj_track_times");
  Id group(H5Gcreate2(state_->file->get(), name.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
           &H5Gclose);
  state_->ok(group.get() >= 0, "create group " + name);
}

void Hdf5Writer::dataset(const std::string& name, const View& data, const Shape& chunk) {
  const std::vector<hsize_t> dims = extents(data.shape), chunks = extents(chunk);
  if (count(chunk) * size_of(data.dtype) >= (i64{1} << 32)) {
    fail(Exit::storage, "{}: {}: a block is over 4 GiB: lower rows_per_block", state_->path, name);
  }
  const int rank = static_cast<int>(dims.size());
  Id space(H5Screate_simple(rank, dims.data(), nullptr), &H5Sclose);
  state_->ok(space.get() >= 0, "shape of " + name);
  Id creation(H5Pcreate(H5P_DATASET_CREATE), &H5Pclose);
  state_->ok(H5Pset_chunk(creation.get(), rank, chunks.data()) >= 0, "chunks of " + name);
  state_->ok(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY) >= 0, "allocation");
  state_->ok(H5Pset_obj_track_times(creation.get(), false) >= 0, "H5Pset_obj_track_times");
  Id set(H5Dcreate2(state_->file->get(), name.c_str(), file_type(data.dtype), space.get(),
                    H5P_DEFAULT, creation.get(), H5P_DEFAULT),
         &H5Dclose);
  state_->ok(set.get() >= 0, "create " + name);
  state_->ok(H5Dwrite(set.get(), file_type(data.dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT,
                      data.data) >= 0,
             "write " + name);
  state_->ok(set.close() >= 0, "close " + name);
}

std::string Hdf5Writer::bytes() {
  const hid_t file = state_->file->get();
  state_->ok(H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0, "flush");
  const ssize_t size = H5Fget_file_image(file, nullptr, 0);
  state_->ok(size > 0, "size of the file");
  std::string image(static_cast<std::size_t>(size), '\0');
  state_->ok(H5Fget_file_image(file, image.data(), image.size()) == size, "image of the file");
  return image;
}

struct Hdf5Reader::State {
  std::string path;
  std::unique_ptr<Id> file;
  void ok(bool good, const std::string& what) const {
    if (!good) failed(Exit::data, path, what);
  }
};

Hdf5Reader::Hdf5Reader(const std::string& path) : state_(std::make_unique<State>()) {
  quiet();
  state_->path = path;
  Id access(H5Pcreate(H5P_FILE_ACCESS), &H5Pclose);
#if H5_VERSION_GE(1, 10, 7)
  state_->ok(H5Pset_file_locking(access.get(), false, true) >= 0, "H5Pset_file_locking");
#endif
  state_->file = std::make_unique<Id>(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()),
                                      &H5Fclose);
  state_->ok(state_->file->get() >= 0, "open");
}
Hdf5Reader::~Hdf5Reader() = default;

Hdf5Dataset Hdf5Reader::dataset(const std::string& name) const {
  Id set(H5Dopen2(state_->file->get(), name.c_str(), H5P_DEFAULT), &H5Dclose);
  state_->ok(set.get() >= 0, "open " + name);
  Id space(H5Dget_space(set.get()), &H5Sclose);
  const int rank = H5Sget_simple_extent_ndims(space.get());
  state_->ok(rank >= 1 && rank <= H5S_MAX_RANK, "shape of " + name);
  std::vector<hsize_t> dims(static_cast<std::size_t>(rank)), chunk(dims);
  state_->ok(H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr) == rank,
             "shape of " + name);
  Id creation(H5Dget_create_plist(set.get()), &H5Pclose);
  state_->ok(H5Pget_chunk(creation.get(), rank, chunk.data()) == rank, "chunks of " + name);
  if (H5Pget_nfilters(creation.get()) != 0) {
    fail(Exit::data, "{}: {} is filtered, expected plain chunks", state_->path, name);
  }
  Hdf5Dataset result{DType::f32, {dims.begin(), dims.end()}, {chunk.begin(), chunk.end()}};
  Id type(H5Dget_type(set.get()), &H5Tclose);
  for (DType known : {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8}) {
    result.dtype = known;
    if (H5Tequal(type.get(), file_type(known)) > 0) return result;
  }
  fail(Exit::data, "{}: {} has an element type that shards do not use", state_->path, name);
}

Hdf5Reader::Place Hdf5Reader::chunk(const std::string& name, i64 row) const {
  Id set(H5Dopen2(state_->file->get(), name.c_str(), H5P_DEFAULT), &H5Dclose);
  state_->ok(set.get() >= 0, "open " + name);
  std::vector<hsize_t> at(H5S_MAX_RANK, 0);
  at[0] = static_cast<hsize_t>(row);
  unsigned filters = 0;
  haddr_t address = HADDR_UNDEF;
  hsize_t bytes = 0;
  state_->ok(H5Dget_chunk_info_by_coord(set.get(), at.data(), &filters, &address, &bytes) >= 0 &&
                 address != HADDR_UNDEF,
             "find chunk of " + name);
  return {static_cast<i64>(address), static_cast<i64>(bytes)};
}

}  // namespace cohort

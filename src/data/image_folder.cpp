#include "data/image_folder.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "fields/csv.h"
#include "fields/image.h"
#include "store/files.h"

namespace cohort {
namespace {

class FolderReader {
 public:
  FolderReader(const SourceConfig& source, std::string path, RawSchema& schema,
               const RowSink& use, const RejectSink& reject)
      : source_(source), path_(std::move(path)), schema_(schema), use_(use), reject_(reject) {}

  void run(nlohmann::json& lineage) {
    check_folder();
    if (!source_.size.empty()) set_shape(source_.size[0], source_.size[1]);
    for (const std::string& name : real_files().list(path_)) {
      if (!std::filesystem::is_directory(path_ + "/" + name)) continue;
      if (!valid_utf8(name)) {
        fail(Exit::data, "{}/{}: the name of a class is not UTF-8: rename the folder", path_, name);
      }
      for (const std::string& file : real_files().list(path_ + "/" + name)) picture(name, file);
    }
    if (pictures_ == 0) {
      fail(Exit::data, "{}: no pictures: expected folders named by class, with files in them",
           path_);
    }
    lineage.push_back(
        {{"path", path_}, {"bytes", bytes_}, {"checksum", to_hex(hasher_.value())}});
  }

 private:
  void check_folder() const {
    if (!std::filesystem::is_directory(path_)) {
      fail(Exit::data, "{}: no such folder: check path and root", path_);
    }
    schema_.set_columns({"label"}, path_);
  }

  void set_shape(i64 height, i64 width) const {
    const Shape shape{height, width, source_.channels};
    if (schema_.image.empty()) schema_.image = shape;
    if (schema_.image != shape) {
      fail(Exit::data, "{}: images {}, expected {} as in the source before", path_,
           to_string(shape), to_string(schema_.image));
    }
  }

  void picture(const std::string& label, const std::string& name) {
    const std::string place = path_ + "/" + label + "/" + name;
    const std::string file = real_files().read(place);
    const std::string key = label + "/" + name;
    hasher_.add(key.data(), key.size() + 1);
    hasher_.add(file.data(), file.size());
    bytes_ += static_cast<i64>(file.size());
    ++pictures_;
    Image image;
    try {
      image = decode_image(file, source_.channels);
    } catch (const Error& error) {
      return reject_(place, error.what());
    }
    if (schema_.image.empty()) set_shape(image.height, image.width);
    const i64 height = schema_.image[0], width = schema_.image[1];
    if (image.height != height || image.width != width) {
      if (!source_.resize) {
        return reject_(place, fmt::format("{} x {} pixels, expected {} x {} (resize?)",
                                          image.height, image.width, height, width));
      }
      image = resize_image(image, height, width);
    }
    if (schema_.image[2] != image.channels) set_shape(height, width);
    use_({{label}, source_.split, place, std::move(image.bytes), 0, true});
  }

  const SourceConfig& source_;
  std::string path_;
  RawSchema& schema_;
  const RowSink& use_;
  const RejectSink& reject_;
  Hasher hasher_;
  i64 bytes_ = 0, pictures_ = 0;
};

}  // namespace

void read_image_folder(const SourceConfig& source, const std::string& root, RawSchema& schema,
                       nlohmann::json& lineage, const RowSink& use, const RejectSink& reject) {
  FolderReader(source, root + "/" + source.path, schema, use, reject).run(lineage);
}

}  // namespace cohort

// Instead of item_index_faiss.cpp where the build has no FAISS.
#include "base/error.h"
#include "serve/item_index.h"

namespace cohort {

bool have_faiss() { return false; }

std::string build_faiss(const Items&, const std::vector<float>&) {
  broken(__FILE__, __LINE__, "a FAISS index without the library");
}

std::unique_ptr<ItemIndex> open_faiss(const std::string&, const std::string&) { return nullptr; }

}  // namespace cohort

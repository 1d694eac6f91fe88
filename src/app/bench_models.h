// The models of the benchmark workloads, as in a config; words in capitals stand for sizes.
#pragma once

namespace cohort::bench {

inline constexpr const char* behavior = R"(
inputs: {events: {normalize: none}}
layers: [{lstm: {units: UNITS, layers: LAYERS, output: last}}, {dense: {units: 1}}]
loss: {mse: {target: target}})";

inline constexpr const char* recommend = R"(
inputs: {user: {}, item: {}, user_features: {normalize: none}, item_features: {normalize: none}}
layers:
  - embedding: {name: u, from: user, dim: DIM, sparse: SPARSE}
  - concat: {name: ua, from: [u, user_features]}
  - dense: {name: uh, units: HIDDEN, activation: relu}
  - dense: {name: uv, units: OUTPUT}
  - embedding: {name: i, from: item, dim: DIM, sparse: SPARSE}
  - concat: {name: ia, from: [i, item_features]}
  - dense: {name: ih, units: HIDDEN, activation: relu}
  - dense: {name: iv, units: OUTPUT}
  - dot: {from: [uv, iv]}
loss: {bce: {target: label}})";

inline constexpr const char* sentiment = R"(
inputs: {tokens: {}}
layers:
  - embedding: {name: e, from: tokens, dim: DIM, sparse: SPARSE}
  - conv1d: {name: a, from: e, filters: 100, width: 3, activation: relu}
  - max_over_time: {name: am}
  - conv1d: {name: b, from: e, filters: 100, width: 4, activation: relu}
  - max_over_time: {name: bm}
  - conv1d: {name: c, from: e, filters: 100, width: 5, activation: relu}
  - max_over_time: {name: cm}
  - concat: {from: [am, bm, cm]}
  - dropout: {rate: 0.5}
  - dense: {units: 1}
loss: {bce: {target: label}})";

inline constexpr const char* image_seed = R"(
inputs: {image: {normalize: none}}
layers:
  - conv2d: {filters: 32, kernel: 3, activation: relu}
  - max_pool2d: {size: 2, stride: 2}
  - flatten: {}
  - dense: {units: 100, activation: relu}
  - dense: {units: 10}
loss: {cross_entropy: {target: label}})";

// configs/image-resnet18.yaml
inline constexpr const char* resnet18 = R"(
inputs: {image: {normalize: standard}}
blocks:
  same:
    parameters: [filters]
    layers:
      - conv2d: {filters: $filters, kernel: 3, padding: 1, bias: false}
      - batch_norm: {}
      - activation: {kind: relu}
      - conv2d: {filters: $filters, kernel: 3, padding: 1, bias: false}
      - batch_norm: {name: branch}
      - add: {from: [branch, input], activation: relu}
  down:
    parameters: [filters]
    layers:
      - conv2d: {filters: $filters, kernel: 3, stride: 2, padding: 1, bias: false}
      - batch_norm: {}
      - activation: {kind: relu}
      - conv2d: {filters: $filters, kernel: 3, padding: 1, bias: false}
      - batch_norm: {name: branch}
      - conv2d: {from: input, filters: $filters, kernel: 1, stride: 2, bias: false}
      - batch_norm: {name: shortcut}
      - add: {from: [branch, shortcut], activation: relu}
layers:
  - conv2d: {from: image, name: stem, filters: 64, kernel: 3, padding: 1, bias: false}
  - batch_norm: {}
  - activation: {kind: relu}
  - use: {block: same, name: stage1, repeat: 2, with: {filters: 64}}
  - use: {block: down, name: stage2_down, with: {filters: 128}}
  - use: {block: same, name: stage2, with: {filters: 128}}
  - use: {block: down, name: stage3_down, with: {filters: 256}}
  - use: {block: same, name: stage3, with: {filters: 256}}
  - use: {block: down, name: stage4_down, with: {filters: 512}}
  - use: {block: same, name: stage4, with: {filters: 512}}
  - global_avg_pool: {}
  - dense: {units: classes}
loss: {cross_entropy: {target: label}})";

// configs/image-resnet50.yaml
inline constexpr const char* resnet50 = R"(
inputs: {image: {normalize: standard}}
blocks:
  same:
    parameters: [filters]
    layers:
      - conv2d: {filters: $filters, kernel: 1, bias: false}
      - batch_norm: {}
      - activation: {kind: relu}
      - conv2d: {filters: $filters, kernel: 3, padding: 1, bias: false}
      - batch_norm: {}
      - activation: {kind: relu}
      - conv2d: {filters: $filters*4, kernel: 1, bias: false}
      - batch_norm: {name: branch}
      - add: {from: [branch, input], activation: relu}
  first:
    parameters: [filters, stride]
    layers:
      - conv2d: {filters: $filters, kernel: 1, bias: false}
      - batch_norm: {}
      - activation: {kind: relu}
      - conv2d: {filters: $filters, kernel: 3, stride: $stride, padding: 1, bias: false}
      - batch_norm: {}
      - activation: {kind: relu}
      - conv2d: {filters: $filters*4, kernel: 1, bias: false}
      - batch_norm: {name: branch}
      - conv2d: {from: input, filters: $filters*4, kernel: 1, stride: $stride, bias: false}
      - batch_norm: {name: shortcut}
      - add: {from: [branch, shortcut], activation: relu}
layers:
  - conv2d: {from: image, name: stem, filters: 64, kernel: 7, stride: 2, padding: 3, bias: false}
  - batch_norm: {}
  - activation: {kind: relu}
  - max_pool2d: {size: 3, stride: 2, padding: 1}
  - use: {block: first, name: stage1_first, with: {filters: 64, stride: 1}}
  - use: {block: same, name: stage1, repeat: 2, with: {filters: 64}}
  - use: {block: first, name: stage2_first, with: {filters: 128, stride: 2}}
  - use: {block: same, name: stage2, repeat: 3, with: {filters: 128}}
  - use: {block: first, name: stage3_first, with: {filters: 256, stride: 2}}
  - use: {block: same, name: stage3, repeat: 5, with: {filters: 256}}
  - use: {block: first, name: stage4_first, with: {filters: 512, stride: 2}}
  - use: {block: same, name: stage4, repeat: 2, with: {filters: 512}}
  - global_avg_pool: {}
  - dense: {units: classes}
loss: {cross_entropy: {target: label}})";

}  // namespace cohort::bench

// Metrics of stored predictions.
#include <array>

#include "check.h"
#include "common/exact_sum.h"
#include "metrics/bootstrap.h"
#include "metrics/correlation.h"
#include "metrics/mixture.h"
#include "metrics/pairs.h"
#include "metrics/scores.h"

namespace popnet {
namespace {

// One exact sum has many forms, so the numbers are compared.
std::vector<double> exact_values(std::vector<int64_t> limbs) {
    std::vector<double> values(limbs.size() / kExactLimbs);
    exact_sums(values.data(), limbs.data(), static_cast<int64_t>(values.size()));
    return values;
}

void compare_sums(Check& arrays, const Array& limbs, const char* name) {
    arrays.compare_results<int64_t, double>(limbs, name, exact_values);
}

// Sums of other numbers, one for each member.
std::vector<int64_t> begun_sums(int64_t members) {
    std::vector<int64_t> limbs(members * kExactLimbs);
    for (int64_t m = 0; m < members; ++m)
        exact_add(limbs.data() + m * kExactLimbs, 1.25 * static_cast<double>(m + 1));
    return limbs;
}

// The rows of a larger array: `length` values each, with `gap` others before each.
std::vector<float> spread(const std::vector<float>& rows, int64_t length, int64_t gap) {
    std::vector<float> made;
    for (size_t first = 0; first < rows.size(); first += length) {
        made.insert(made.end(), gap, 1e30f);  // nothing that is read
        made.insert(made.end(), rows.begin() + first, rows.begin() + first + length);
    }
    return made;
}

// The places (i, j), i + distance <= j, of a matrix whose other entries are undefined.
std::vector<size_t> upper(int64_t members, int64_t distance) {
    std::vector<size_t> places;
    for (int64_t i = 0; i < members; ++i) {
        for (int64_t j = i + distance; j < members; ++j) places.push_back(i * members + j);
    }
    return places;
}

// ---- one member's scores, votes, differences ----

struct Shape {
    int64_t members, examples, classes;

    int64_t count() const { return members * examples * classes; }
    std::string text() const {
        return std::to_string(members) + "x" + std::to_string(examples) + "x" + std::to_string(classes);
    }
};

void check_scores(const Shape& s, const std::vector<float>& values, bool all_outputs) {
    check("scores " + s.text() + (all_outputs ? "" : " losses alone"), [&](Check& arrays) {
        int64_t words = (s.examples + 63) / 64;
        Array &logits = arrays.input(values), &labels = arrays.input(integers(s.examples, s.classes));
        Array& correct = arrays.output(std::vector<int64_t>(s.members), "right answers");
        Array& bits = arrays.output(std::vector<uint64_t>(s.members * words), "bits");
        Array& losses = arrays.input(begun_sums(s.members));  // is added to
        compare_sums(arrays, losses, "losses");
        Array& predictions = arrays.blank(all_outputs ? s.members * s.examples * 4 : 0, "predictions");
        for (bool gpu : {false, true}) {
            Logits given{logits.on<float>(gpu), s.members, s.examples, s.classes};
            MemberScores out{nullptr, nullptr, losses.on<int64_t>(gpu), nullptr};
            if (all_outputs) {
                out.correct = correct.on<int64_t>(gpu);
                out.correct_bits = bits.on<uint64_t>(gpu);
                out.predictions = predictions.on<int32_t>(gpu);
            }
            if (gpu)
                member_scores_cuda(given, labels.on<int64_t>(gpu), out, stream());
            else
                member_scores_cpu(given, labels.on<int64_t>(gpu), out, 1);
        }
    });
}

void check_votes_and_differences(const Shape& s) {
    check("votes and differences " + s.text(), [&](Check& arrays) {
        std::vector<int32_t> guesses;
        for (int64_t guess : integers(s.members * s.examples, s.classes)) {
            guesses.push_back(static_cast<int32_t>(guess));
        }
        Array& predictions = arrays.input(guesses);
        Array& votes = arrays.output(std::vector<int64_t>(s.examples * s.classes, 2), "votes");
        Array& differing = arrays.blank(s.members * s.members * sizeof(int64_t), "differences");
        const int32_t *here = predictions.on<int32_t>(false), *there = predictions.on<int32_t>(true);
        add_votes_cpu(votes.on<int64_t>(false), here, s.members, s.examples, s.classes, 1);
        add_votes_cuda(votes.on<int64_t>(true), there, s.members, s.examples, s.classes, stream());
        differing_matrix_cpu(differing.on<int64_t>(false), here, s.members, s.examples, 1);
        differing_matrix_cuda(differing.on<int64_t>(true), there, s.members, s.examples, stream());
    });
}

// ---- correlation ----

void check_correlation(const std::string& what, int64_t members, int64_t values,
                       const std::vector<float>& given) {
    for (Correlation kind : {Correlation::SPEARMAN, Correlation::PEARSON}) {
        bool ranks = kind == Correlation::SPEARMAN;
        check("correlation, " + what + (ranks ? ", ranks" : ", values"), [&](Check& arrays) {
            Array& logits = arrays.input(given);
            Array& sums = arrays.output(std::vector<uint64_t>(2 * values, 5), "sums");
            Array& squares = arrays.blank(2 * members * sizeof(uint64_t), "squares");
            Array& all_ranks = arrays.blank(ranks ? members * values * sizeof(int32_t) : 0, "ranks");
            size_t bytes = unit_vectors_workspace_cuda(members, values);
            Array &workspace = arrays.scratch(bytes), &another = arrays.scratch(bytes);
            add_unit_vectors_cpu({sums.on<uint64_t>(false), squares.on<uint64_t>(false)},
                                 logits.on<float>(false), members, values, kind, 1);
            add_unit_vectors_cuda({sums.on<uint64_t>(true), squares.on<uint64_t>(true)},
                                  logits.on<float>(true), members, values, kind, workspace.on<void>(true),
                                  bytes, stream());
            if (!ranks) return;
            centred_ranks_cpu(all_ranks.on<int32_t>(false), logits.on<float>(false), members, values, 1);
            centred_ranks_cuda(all_ranks.on<int32_t>(true), logits.on<float>(true), members, values,
                               another.on<void>(true), bytes, stream());
        });
    }
}

void check_correlations() {
    check_correlation("one value", 3, 1, floats(3));
    check_correlation("two values", 5, 2, ties(10, 2));
    check_correlation("ties", 7, 300, ties(7 * 300, 5));
    check_correlation("members", 11, 700, floats(11 * 700));
    check_correlation("many members", 300, 3, ties(900, 3));
    check_correlation("one member", 1, 5000, floats(5000));
    check_correlation("large values", 3, 500, floats(1500, -3e38, 3e38));
    check_correlation("no members", 0, 5, {});
    std::vector<float> constant = floats(4 * 100);
    for (int k = 100; k < 200; ++k) constant[k] = 0.3f;
    for (int k = 300; k < 400; ++k) constant[k] = k % 2 ? 0.0f : -0.0f;
    check_correlation("members whose values are equal", 4, 100, constant);
    // more members than a launch takes, so that a second group of them follows
    if (large_checks()) check_correlation("groups of members", 65535 + 9, 2, ties(2 * (65535 + 9), 5));
}

// ---- pairs ----

std::vector<int64_t> shuffled_rows(int64_t members) {
    std::vector<int64_t> rows(members);
    for (int64_t i = 0; i < members; ++i) rows[i] = (7 * i + 3) % members;  // 7 divides no size used here
    return rows;
}

void check_pairs(const std::string& what, const Shape& s, const std::vector<float>& values) {
    check("pairs, " + what, [&](Check& arrays) {
        constexpr int64_t kGap = 5;
        int64_t length = s.examples * s.classes;
        Array& logits = arrays.input(spread(values, length, kGap));
        Array& rows = arrays.input(shuffled_rows(s.members));
        Array& labels = arrays.input(integers(s.examples, s.classes));
        Array& correct = arrays.input(std::vector<int64_t>(s.members * s.members, 3));
        Array& products = arrays.input(std::vector<double>(s.members * s.members, 0.5));
        if (s.members > 1) arrays.compare<int64_t>(correct, "right ensembles", upper(s.members, 1));
        arrays.compare<double>(products, "products", upper(s.members, 0));
        size_t bytes = ensemble_workspace_cuda(s.members, s.classes);
        Array &workspace = arrays.scratch(bytes), &another = arrays.scratch(bytes);
        for (bool gpu : {false, true}) {
            PairSlice slice{};
            slice.values = logits.on<float>(gpu) + kGap;
            slice.member_stride = kGap + length;
            slice.rows = rows.on<int64_t>(gpu);
            slice.members = s.members;
            slice.examples = s.examples;
            slice.classes = s.classes;
            slice.labels = labels.on<int64_t>(gpu);
            if (gpu) {
                ensemble_correct_cuda(correct.on<int64_t>(gpu), slice, workspace.on<void>(true), stream());
                ensemble_log_products_cuda(products.on<double>(gpu), slice, another.on<void>(true), stream());
            } else {
                ensemble_correct_cpu(correct.on<int64_t>(gpu), slice, 1);
                ensemble_log_products_cpu(products.on<double>(gpu), slice, 1);
            }
        }
    });
}

void check_tokens(int64_t members, int64_t tokens, double least) {
    check("tokens " + std::to_string(members) + "x" + std::to_string(tokens), [&](Check& arrays) {
        constexpr int64_t kGap = 3;
        Array& values = arrays.input(spread(floats(members * tokens, least, -0.1), tokens, kGap));
        Array& rows = arrays.input(shuffled_rows(members));
        Array& sums = arrays.input(begun_sums(members));
        Array& products = arrays.input(std::vector<double>(members * members, 0.5));
        compare_sums(arrays, sums, "sums");
        arrays.compare<double>(products, "products", upper(members, 0));
        Array& workspace = arrays.scratch(mixture_workspace_cuda(members));
        for (bool gpu : {false, true}) {
            TokenSlice slice{values.on<float>(gpu) + kGap, kGap + tokens, rows.on<int64_t>(gpu), members,
                             tokens};
            if (gpu) {
                token_sums_cuda(sums.on<int64_t>(gpu), slice, stream());
                mixture_log_products_cuda(products.on<double>(gpu), slice, workspace.on<void>(true),
                                          stream());
            } else {
                token_sums_cpu(sums.on<int64_t>(gpu), slice, 1);
                mixture_log_products_cpu(products.on<double>(gpu), slice, 1);
            }
        }
    });
}

// ---- bootstrap ----

void check_bootstrap(int64_t statistics, int64_t members, int64_t resamples) {
    check("bootstrap " + Shape{statistics, members, resamples}.text(), [&](Check& arrays) {
        Array& values = arrays.input(integers(statistics * members, int64_t{1} << 30));
        Array& deviations = arrays.blank(statistics * resamples * sizeof(double), "deviations");
        bootstrap_deviations_cpu(deviations.on<double>(false), values.on<int64_t>(false), statistics, members,
                                 resamples, 5, 1);
        bootstrap_deviations_cuda(deviations.on<double>(true), values.on<int64_t>(true), statistics, members,
                                  resamples, 5, stream());
    });
}

}  // namespace

void check_metrics() {
    for (const Shape& s : {Shape{3, 130, 10}, Shape{2, 1, 1}, Shape{1, 64, 1000}, Shape{5, 700, 3}}) {
        check_scores(s, floats(s.count(), -40, 40), true);
    }
    for (const Shape& s : {Shape{20, 257, 3}, Shape{33, 63, 2}}) check_scores(s, ties(s.count(), 4), true);
    check_scores({2, 300, 4}, floats(2 * 300 * 4), false);
    check_scores({2, 0, 3}, {}, true);
    check_scores({0, 5, 3}, {}, true);
    for (const Shape& s : {Shape{5, 77, 10}, Shape{35, 40, 4}, Shape{3, 700, 3}, Shape{1, 3, 2},
                           Shape{4, 0, 2}, Shape{0, 6, 2}}) {
        check_votes_and_differences(s);
    }
    check_correlations();
    check_pairs("one block", {5, 37, 10}, floats(5 * 37 * 10));
    check_pairs("blocks", {36, 20, 4}, floats(36 * 20 * 4));
    check_pairs("ties", {18, 33, 3}, ties(18 * 33 * 3, 4));
    check_pairs("far apart", {6, 40, 10}, floats(6 * 40 * 10, -3000, 3000));
    check_pairs("two classes", {17, 16, 2}, floats(17 * 16 * 2));
    check_pairs("one class", {17, 16, 1}, floats(17 * 16));
    check_pairs("one member", {1, 20, 3}, floats(20 * 3));
    check_pairs("no members", {0, 4, 3}, {});
    check_pairs("no examples", {3, 0, 3}, {});
    check_tokens(5, 192, -9);
    check_tokens(18, 200, -9);    // blocks of pairs, the last chunk in part
    check_tokens(19, 130, -200);  // the same, by way of the logarithms
    check_tokens(3, 4200, -9);    // more than one batch
    check_tokens(2, 1, -2000);    // below what a product can hold
    check_tokens(17, 64, -2000);
    check_tokens(0, 64, -9);
    check_tokens(3, 0, -9);
    check_bootstrap(3, 11, 50);
    check_bootstrap(2, 1001, 700);
    check_bootstrap(0, 5, 3);
    check_bootstrap(2, 1, 3);
}

}  // namespace popnet

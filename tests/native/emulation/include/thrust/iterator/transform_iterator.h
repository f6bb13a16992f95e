#pragma once

namespace thrust {

template <typename Function, typename Iterator>
class transform_iterator {
public:
    transform_iterator(Iterator from, Function function) : from_(from), function_(function) {}
    auto operator[](int i) const { return function_(from_[i]); }

private:
    Iterator from_;
    Function function_;
};

}  // namespace thrust

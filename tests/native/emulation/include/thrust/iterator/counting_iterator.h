#pragma once

namespace thrust {

template <typename T>
class counting_iterator {
public:
    explicit counting_iterator(T first) : first_(first) {}
    T operator[](int i) const { return first_ + i; }

private:
    T first_;
};

}  // namespace thrust
